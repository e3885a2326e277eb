"""Fetches the arrays and puts the results."""

FAILS = ("the driver itself stores no array", "each result is stored exactly once")


@ray.remote
def centre(array):
    return array - array.mean()


def centre_all(refs):
    return [ray.put(array - array.mean()) for array in ray.get(refs)]
