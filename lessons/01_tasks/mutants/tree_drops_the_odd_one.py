"""Forgets the one that has no partner."""

FAILS = ("works for seven numbers: one is left over",)


def tree_sum(refs):
    level = list(refs)
    while len(level) > 1:
        level = [add.remote(a, b) for a, b in zip(level[::2], level[1::2])]
    return level[0]
