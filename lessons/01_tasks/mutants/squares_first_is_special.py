"""Looks at the first result before it submits the rest."""

FAILS = ("all tasks are submitted before the first get",)


def square_all(numbers):
    if not numbers:
        return []
    first = ray.get(slow_square.remote(numbers[0]))
    return [first] + ray.get([slow_square.remote(x) for x in numbers[1:]])
