"""Keeps the array that it got: its bytes lie in the block."""

FAILS = ("nothing of it is left when the function is over",)
SEEN = {}


def scaled_sums(array, factors):
    ref = ray.put(array)
    SEEN["last"] = ray.get(ref)
    return ray.get([scaled_sum.remote(ref, factor) for factor in factors])
