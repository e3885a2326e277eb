"""Computes, and forgets to return."""

FAILS = (
    "gives the squares, in the order of the numbers",
    "an empty list gives an empty list",
)


def square_all(numbers):
    ray.get([slow_square.remote(x) for x in numbers])
