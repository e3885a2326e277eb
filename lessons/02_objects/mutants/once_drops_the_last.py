"""Forgets the last factor."""

FAILS = ("gives the sums, in the order of the factors", "every factor is one scaled_sum task")


def scaled_sums(array, factors):
    ref = ray.put(array)
    return ray.get([scaled_sum.remote(ref, factor) for factor in factors[:-1]])
