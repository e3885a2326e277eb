"""Adds one after the other: a chain."""

FAILS = ("eight numbers need a chain of only three tasks",)


def tree_sum(refs):
    total = refs[0]
    for ref in refs[1:]:
        total = add.remote(total, ref)
    return total
