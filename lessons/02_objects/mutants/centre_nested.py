"""The task stores its result itself and returns a reference to it."""

FAILS = ("behind them are the centred arrays", "each result is stored exactly once")


@ray.remote
def centre(array):
    return ray.put(array - array.mean())


def centre_all(refs):
    return [centre.remote(ref) for ref in refs]
