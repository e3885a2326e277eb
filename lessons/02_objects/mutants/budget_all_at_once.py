"""Makes all arrays first."""

FAILS = ("never more than 6 arrays are in memory",)


def sums_of(numbers):
    arrays = [make.remote(number) for number in numbers]
    return ray.get([total.remote(array) for array in arrays])
