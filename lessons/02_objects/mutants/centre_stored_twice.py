"""Fetches each result and puts it again."""

FAILS = ("the driver itself stores no array",)


@ray.remote
def centre(array):
    return array - array.mean()


def centre_all(refs):
    return [ray.put(array) for array in ray.get([centre.remote(ref) for ref in refs])]
