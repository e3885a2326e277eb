"""Fetches the partial sums after each round and passes values."""

FAILS = (
    "the driver never asks for a partial sum",
    "eight numbers need a chain of only three tasks",
)


def tree_sum(refs):
    level = list(refs)
    while len(level) > 1:
        sums = ray.get([add.remote(a, b) for a, b in zip(level[::2], level[1::2])])
        level = [ray.put(number) for number in sums] + (level[-1:] if len(level) % 2 else [])
    return level[0]
