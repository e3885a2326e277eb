"""Takes the results in the order of submission."""

FAILS = (
    "gives them in the order in which the tasks finished",
    "never has to wait in ray.get",
    "lets ray.wait do the waiting",
)


def in_order_of_arrival(refs):
    return [ray.get(ref) for ref in refs]
