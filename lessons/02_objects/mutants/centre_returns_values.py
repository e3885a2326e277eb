"""Returns the arrays."""

FAILS = ("returns one reference for each array", "behind them are the centred arrays")


@ray.remote
def centre(array):
    return array - array.mean()


def centre_all(refs):
    return ray.get([centre.remote(ref) for ref in refs])
