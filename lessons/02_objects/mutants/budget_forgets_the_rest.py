"""Works for whole waves only, and gives one total too few."""

FAILS = ("gives the sums, in the order of the numbers",)


def sums_of(numbers):
    sums = []
    for start in range(0, len(numbers) - 4, 4):
        sums += ray.get([total.remote(make.remote(number)) for number in numbers[start : start + 4]])
    return sums
