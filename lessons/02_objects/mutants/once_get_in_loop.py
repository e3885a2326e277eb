"""Stores it once, and then waits in every round."""

FAILS = ("all tasks are submitted before the first wait",)


def scaled_sums(array, factors):
    ref = ray.put(array)
    return [ray.get(scaled_sum.remote(ref, factor)) for factor in factors]
