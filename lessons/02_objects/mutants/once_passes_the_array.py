"""Passes the array itself: it is stored with every call."""

FAILS = ("the array is stored exactly once",)


def scaled_sums(array, factors):
    return ray.get([scaled_sum.remote(array, factor) for factor in factors])
