"""Adds a zero that nobody asked for."""

FAILS = ("uses one add task less than there are numbers",)


def tree_sum(refs):
    level = [ray.put(0)] + list(refs)
    while len(level) > 1:
        pairs = [add.remote(a, b) for a, b in zip(level[::2], level[1::2])]
        level = pairs + (level[-1:] if len(level) % 2 else [])
    return level[0]
