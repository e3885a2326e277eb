"""Submits every task twice."""

FAILS = ("every number is one slow_square task",)


def square_all(numbers):
    refs = [slow_square.remote(x) for x in numbers]
    spare = [slow_square.remote(x) for x in numbers]
    return ray.get(refs) + ray.get(spare)[len(numbers) :]
