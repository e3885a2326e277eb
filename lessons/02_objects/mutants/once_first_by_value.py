"""Passes the array to the first task and a reference to the others: stored twice."""

FAILS = ("the array is stored exactly once",)


def scaled_sums(array, factors):
    if not factors:
        return []
    first = scaled_sum.remote(array, factors[0])
    ref = ray.put(array)
    return ray.get([first, *[scaled_sum.remote(ref, factor) for factor in factors[1:]]])
