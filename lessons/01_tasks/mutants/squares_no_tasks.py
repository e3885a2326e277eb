"""Computes everything in the notebook."""

FAILS = (
    "every number is one slow_square task",
    "all tasks are submitted before the first get",
    "tasks run at the same time",
)


def square_all(numbers):
    return [x * x for x in numbers]
