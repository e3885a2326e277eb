"""Waves of eight."""

FAILS = ("never more than 6 arrays are in memory",)


def sums_of(numbers):
    sums = []
    for start in range(0, len(numbers), 8):
        wave = [make.remote(number) for number in numbers[start : start + 8]]
        ray.wait(wave, num_returns=len(wave))
        sums += ray.get([total.remote(array) for array in wave])
    return sums
