"""Waits on an empty list."""

FAILS = ("an empty list gives an empty list",)


def in_order_of_arrival(refs):
    results, pending = [], list(refs)
    while True:
        ready, pending = ray.wait(pending)
        results += ray.get(ready)
        if not pending:
            return results
