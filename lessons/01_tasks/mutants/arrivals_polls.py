"""Asks again and again instead of waiting."""

FAILS = ("lets ray.wait do the waiting",)


def in_order_of_arrival(refs):
    results, pending = [], list(refs)
    while pending:
        ready, pending = ray.wait(pending, timeout=0.01)
        results += ray.get(ready)
    return results
