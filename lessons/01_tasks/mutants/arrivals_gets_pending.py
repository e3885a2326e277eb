"""Fetches the pending ones instead of the ready ones."""

FAILS = (
    "gives them in the order in which the tasks finished",
    "never has to wait in ray.get",
)


def in_order_of_arrival(refs):
    if not refs:
        return []
    ready, pending = ray.wait(refs)
    return ray.get(pending) + ray.get(ready)
