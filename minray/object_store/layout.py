"""How does one value with out-of-band buffers lie in one block?

Buffers follow each other, each at the next multiple of 64 bytes: arrays stay aligned for SIMD
loads, and the positions follow from the lengths alone, so that only the lengths travel.
"""

from __future__ import annotations

from collections.abc import Sequence

ALIGNMENT_BYTES = 64


def plan(lengths: Sequence[int]) -> tuple[int, list[int]]:
    """Place buffers of these lengths: (bytes in total, position of each from the block's payload)."""
    positions = []
    at = 0
    for length in lengths:
        positions.append(at)
        at += (length + ALIGNMENT_BYTES - 1) & -ALIGNMENT_BYTES
    return at, positions


def payload_bytes(lengths: Sequence[int]) -> int:
    """What a block must hold for buffers of these lengths: `plan`'s total, at least one line."""
    if len(lengths) == 1:
        return (lengths[0] + ALIGNMENT_BYTES - 1) & -ALIGNMENT_BYTES or ALIGNMENT_BYTES
    return plan(lengths)[0] or ALIGNMENT_BYTES
