"""Returns a list of numbers instead of an array."""

FAILS = ("behind them are the centred arrays",)


@ray.remote
def centre(array):
    return (array - array.mean()).tolist()


def centre_all(refs):
    return [centre.remote(ref) for ref in refs]
