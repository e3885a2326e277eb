"""How does a program take results as they come, without a `get` in a loop?

`as_completed` is for refs that exist, `map_unordered` for a function and its inputs: it keeps a bounded
number of tasks under way, so that a long input neither floods the scheduler nor the memory.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import minray

DEFAULT_CHUNK_SIZE = 10
DEFAULT_BACKPRESSURE_SIZE = 100


def as_completed(
    refs: Sequence[Any], *, chunk_size: int = DEFAULT_CHUNK_SIZE, yield_obj_refs: bool = False, **kwargs: Any
) -> Iterator[Any]:
    """Yield the values of `refs` (or the refs) as they become ready, `chunk_size` at a time.

    Args:
        refs: references of tasks or objects.
        chunk_size: how many must be ready before they are yielded; 1 is the most eager.
        yield_obj_refs: yield the refs themselves.
        **kwargs: for `minray.wait`: `timeout` of each round, `fetch_local`.
    """
    _check_chunks(chunk_size, kwargs)
    return _as_completed(list(refs), chunk_size, yield_obj_refs, kwargs)


def _as_completed(
    refs: list[Any], chunk_size: int, yield_obj_refs: bool, wait_options: dict[str, Any]
) -> Iterator[Any]:
    while refs:
        ready, refs = minray.wait(refs, num_returns=min(chunk_size, len(refs)), **wait_options)
        yield from ready if yield_obj_refs else minray.get(ready)


def map_unordered(
    fn: Any,
    items: Iterable[Any],
    *,
    backpressure_size: int | None = DEFAULT_BACKPRESSURE_SIZE,
    chunk_size: int = DEFAULT_CHUNK_SIZE,
    yield_obj_refs: bool = False,
    **kwargs: Any,
) -> Iterator[Any]:
    """Apply the remote function `fn` to each of `items`; yield the results as they become ready.

    Args:
        fn: a remote function of one argument.
        items: inputs; taken from their iterator only as fast as tasks finish.
        backpressure_size: at most so many tasks are under way; None: all at once.
        chunk_size: how many must be ready before they are yielded.
        yield_obj_refs: yield refs instead of values.
        **kwargs: for `minray.wait`: `timeout` of each round, `fetch_local`.
    """
    _check_chunks(chunk_size, kwargs)
    limit = float("inf") if backpressure_size is None else backpressure_size
    if limit < chunk_size:
        raise ValueError("backpressure_size must be equal or greater than chunk_size")
    return _map_unordered(fn, items, limit, chunk_size, yield_obj_refs, kwargs)


def _map_unordered(
    fn: Any,
    items: Iterable[Any],
    limit: float,
    chunk_size: int,
    yield_obj_refs: bool,
    wait_options: dict[str, Any],
) -> Iterator[Any]:
    refs: list[Any] = []
    for item in items:
        refs.append(fn.remote(item))
        while len(refs) >= limit:
            ready, refs = minray.wait(refs, num_returns=min(chunk_size, len(refs)), **wait_options)
            yield from ready if yield_obj_refs else minray.get(ready)
    yield from _as_completed(refs, chunk_size, yield_obj_refs, wait_options)


def _check_chunks(chunk_size: int, wait_options: dict[str, Any]) -> None:
    if chunk_size < 1:
        raise ValueError("`chunk_size` must be >= 1")
    if "num_returns" in wait_options:
        raise ValueError("Use the `chunk_size` argument instead of `num_returns`.")
