"""Fetches the arrays and sends them to total as values."""

FAILS = ("no array comes to the driver",)


def sums_of(numbers):
    sums = []
    for start in range(0, len(numbers), 2):
        arrays = ray.get([make.remote(n) for n in numbers[start : start + 2]])
        sums += ray.get([total.remote(array) for array in arrays])
    return sums
