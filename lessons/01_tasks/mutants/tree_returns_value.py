"""Returns the sum and not a reference."""

FAILS = ("returns a reference to the sum",)


def tree_sum(refs):
    level = list(refs)
    while len(level) > 1:
        pairs = [add.remote(a, b) for a, b in zip(level[::2], level[1::2])]
        level = pairs + (level[-1:] if len(level) % 2 else [])
    return ray.get(level[0])
