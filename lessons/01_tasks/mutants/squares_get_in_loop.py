"""Waits for each result before it submits the next task."""

FAILS = (
    "all tasks are submitted before the first get",
    "tasks run at the same time",
)


def square_all(numbers):
    return [ray.get(slow_square.remote(x)) for x in numbers]
