"""Returns the references and forgets to get."""

FAILS = ("gives the squares, in the order of the numbers",)


def square_all(numbers):
    return [slow_square.remote(x) for x in numbers]
