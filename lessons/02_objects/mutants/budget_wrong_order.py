"""Takes the totals as they come and sorts them."""

FAILS = ("gives the sums, in the order of the numbers",)


def sums_of(numbers):
    sums = []
    for start in range(0, len(numbers), 4):
        sums += ray.get([total.remote(make.remote(number)) for number in numbers[start : start + 4]])
    return sorted(sums)
