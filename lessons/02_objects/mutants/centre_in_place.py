"""Writes into the read-only array."""

FAILS = ("behind them are the centred arrays",)


@ray.remote
def centre(array):
    array -= array.mean()
    return array


def centre_all(refs):
    return [centre.remote(ref) for ref in refs]
