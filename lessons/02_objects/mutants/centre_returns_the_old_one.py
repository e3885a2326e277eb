"""Centres a copy and returns what came in."""

FAILS = ("behind them are the centred arrays",)


@ray.remote
def centre(array):
    mine = array.copy()
    mine -= mine.mean()
    return array


def centre_all(refs):
    return [centre.remote(ref) for ref in refs]
