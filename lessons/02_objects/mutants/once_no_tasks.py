"""Computes the sums in the notebook."""

FAILS = (
    "every factor is one scaled_sum task",
    "the array is stored exactly once",
    "all tasks are submitted before the first wait",
)


def scaled_sums(array, factors):
    return [float(factor * array.sum()) for factor in factors]
