"""Returns the squares in another order."""

FAILS = ("gives the squares, in the order of the numbers",)


def square_all(numbers):
    return sorted(ray.get([slow_square.remote(x) for x in numbers]))
