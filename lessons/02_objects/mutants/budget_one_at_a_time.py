"""Within the budget, but nothing happens at the same time."""

FAILS = ("arrays are made at the same time",)


def sums_of(numbers):
    return [ray.get(total.remote(make.remote(number))) for number in numbers]
