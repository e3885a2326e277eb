"""Fetches the arrays and adds them up in the notebook."""

FAILS = ("every number is one make and one total task", "no array comes to the driver")


def sums_of(numbers):
    sums = []
    for start in range(0, len(numbers), 4):
        sums += [
            float(array.sum()) for array in ray.get([make.remote(n) for n in numbers[start : start + 4]])
        ]
    return sums
