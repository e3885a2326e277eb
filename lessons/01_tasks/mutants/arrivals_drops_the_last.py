"""Stops when one is left, and forgets it."""

FAILS = ("gives every result exactly once",)


def in_order_of_arrival(refs):
    results, pending = [], list(refs)
    while len(pending) > 1:
        ready, pending = ray.wait(pending)
        results += ray.get(ready)
    return results
