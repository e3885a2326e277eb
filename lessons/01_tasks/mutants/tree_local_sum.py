"""Fetches everything and adds in the notebook."""

FAILS = (
    "uses one add task less than there are numbers",
    "the driver never asks for a partial sum",
)


def tree_sum(refs):
    return ray.put(sum(ray.get(refs)))
