"""Works in waves, but a list keeps the references of all of them."""

FAILS = ("never more than 6 arrays are in memory",)


def sums_of(numbers):
    arrays, sums = [], []
    for start in range(0, len(numbers), 4):
        wave = [make.remote(number) for number in numbers[start : start + 4]]
        arrays += wave
        sums += ray.get([total.remote(array) for array in wave])
    return sums
