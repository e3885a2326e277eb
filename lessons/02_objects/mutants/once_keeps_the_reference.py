"""Keeps the reference in a global list: a leak."""

FAILS = ("nothing of it is left when the function is over",)
KEPT = []


def scaled_sums(array, factors):
    KEPT.append(ray.put(array))
    return ray.get([scaled_sum.remote(KEPT[-1], factor) for factor in factors])
