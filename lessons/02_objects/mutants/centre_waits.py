"""Waits for each array before it starts the next task."""

FAILS = ("it waits for nothing",)


@ray.remote
def centre(array):
    return array - array.mean()


def centre_all(refs):
    centred = []
    for ref in refs:
        centred.append(centre.remote(ref))
        ray.wait(centred[-1:])
    return centred
