"""Keeps the last array for later."""

FAILS = ("nothing is left when the function is over",)
LAST = {}


def sums_of(numbers):
    sums = []
    for start in range(0, len(numbers), 4):
        wave = [make.remote(number) for number in numbers[start : start + 4]]
        sums += ray.get([total.remote(array) for array in wave])
        LAST["array"] = wave[-1]
    return sums
