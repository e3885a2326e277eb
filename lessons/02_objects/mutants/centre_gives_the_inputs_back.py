"""Starts the tasks and returns the references that it was given."""

FAILS = ("behind them are the centred arrays",)


@ray.remote
def centre(array):
    return array - array.mean()


def centre_all(refs):
    for ref in refs:
        centre.remote(ref)
    return refs
