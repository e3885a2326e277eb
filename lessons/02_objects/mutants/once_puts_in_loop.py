"""Puts the array anew for every task."""

FAILS = ("the array is stored exactly once",)


def scaled_sums(array, factors):
    return ray.get([scaled_sum.remote(ray.put(array), factor) for factor in factors])
