"""How does a Python value become bytes, and how does it come back without a copy?

Pickle protocol 5 separates a value into a small stream and the large buffers that it refers to
(numpy, Arrow, pandas). The buffers go to shared memory or travel beside the stream, and the reader
builds arrays *over* them: read-only, no copy. What plain pickle cannot do (lambdas, local classes,
anything defined in `__main__`) goes to cloudpickle, which is ten times slower, so it is the fallback.

    state 1  PLAIN    the value itself: None, bool, int, float, short str and bytes
    state 2  PICKLED  bytes, no buffers, no references inside
    state 3  STORED   a `Stored`: stream + buffers (in memory or in a block of the arena) + references
    state 4  FAILED   bytes of a pickled exception
    state 0  PENDING  not there yet

References met while pickling are noted in `collecting.refs`, so that whoever sends the bytes keeps
the objects alive; while unpickling, `ObjectRef`s are rebuilt by the process's core worker.
"""

from __future__ import annotations

import pickle
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from pickle import PickleBuffer
from typing import Any

from minray.serialization import tensors

PENDING, PLAIN, PICKLED, STORED, FAILED = range(5)

PLAIN_TYPES = frozenset((int, float, bool, type(None)))
TEXT_TYPES = frozenset((str, bytes))
PLAIN_TEXT_LIMIT = 4096
RAW_BYTES = b"R"  # the stream of a value that is one large bytes object


class _Collecting(threading.local):
    """Per thread: the references met by the serialization under way (None: nobody asks)."""

    refs: list[Any] | None = None
    known: dict[Any, Any] | None = None  # (owner, number) -> ObjectRef, while unpickling
    made: list[Any] | None = None  # borrowed references made while unpickling


collecting = _Collecting()
list_envelope: Callable[[list[Any]], Any] | None = None
"""Set by the worker layer: wraps an exact list of references for the trip, or returns it as it is."""


class Stored:
    """A value at rest: pickle stream, out-of-band buffers, the references inside.

    `buffers`: bytes objects when the value lives in this process's heap; `block`: (payload offset,
    lengths, allocator's worker id, mark) when they lie in the arena, (position, lengths, b"", file name)
    when they were spilled to disk. Never both.
    """

    __slots__ = ("stream", "buffers", "block", "refs", "size", "used_s", "__weakref__")

    used_s: float  # when the buffers were last stored, read or sent (those with a block)

    def __init__(
        self,
        stream: bytes,
        buffers: Sequence[Any] | None,
        block: tuple[int, tuple[int, ...], bytes, Any] | None,
        refs: tuple[Any, ...],
        size: int,
    ) -> None:
        self.stream = stream
        self.buffers = buffers
        self.block = block
        self.refs = refs
        self.size = size


def is_plain(value: Any) -> bool:
    """Whether `value` can travel as itself inside a batch."""
    kind = type(value)
    return kind in PLAIN_TYPES or (kind in TEXT_TYPES and len(value) <= PLAIN_TEXT_LIMIT)


def dump(value: Any) -> tuple[bytes, list[PickleBuffer], list[Any]]:
    """Pickle `value`. Returns (stream, buffers, references inside, in order).

    Raises: TypeError or PicklingError from the value itself, with a hint to `inspect_serializability`.
    """
    if type(value) is list and len(value) > 16 and list_envelope is not None:
        value = list_envelope(value)
    torch = sys.modules.get("torch")
    if torch is not None and hasattr(torch, "Tensor"):
        tensors.register(torch)
    buffers: list[PickleBuffer] = []
    before = collecting.refs
    refs: list[Any] = []
    collecting.refs = refs
    try:
        try:
            stream = pickle.dumps(value, 5, buffer_callback=buffers.append)
            if b"__main__" not in stream:
                return stream, buffers, refs
        except RecursionError:
            raise
        except Exception:
            pass  # cloudpickle decides, and its error is the better one
        buffers.clear()
        refs.clear()
        import cloudpickle

        try:
            stream = cloudpickle.dumps(value, 5, buffer_callback=buffers.append)
        except Exception as error:
            raise _explained(error, value) from error
        return stream, buffers, refs
    finally:
        collecting.refs = before


def _explained(error: Exception, value: Any) -> Exception:
    text = (
        f"Could not serialize {type(value).__name__} {_short(value)}: {error}\n"
        "Call `minray.util.inspect_serializability(...)` on it to see which part is to blame."
    )
    if isinstance(error, pickle.PicklingError):
        return pickle.PicklingError(text)
    return TypeError(text)


def blame_argument(args: Sequence[Any], kwargs: Mapping[str, Any], error: Exception) -> Exception:
    """The error of arguments that cannot be pickled together, with the one that cannot be pickled alone."""
    for name, value in [*((f"number {index}", value) for index, value in enumerate(args)), *kwargs.items()]:
        try:
            dump(value)
        except Exception as own:
            return type(error)(f"The argument {name} of the call cannot be sent. {own}")
    return error


def _short(value: Any) -> str:
    try:
        text = repr(value)
    except Exception:
        return "<unprintable>"
    return text if len(text) <= 80 else text[:77] + "..."


def load(stream: bytes, buffers: Sequence[Any] | None, known: dict[Any, Any] | None = None) -> tuple[Any, list[Any]]:
    """Unpickle. Returns (value, borrowed references made on the way). `known` resolves references."""
    before_known, before_made = collecting.known, collecting.made
    made: list[Any] = []
    collecting.known, collecting.made = known, made
    try:
        if buffers is None:
            return pickle.loads(stream), made
        return pickle.loads(stream, buffers=buffers), made
    finally:
        collecting.known, collecting.made = before_known, before_made


def raw(buffers: Sequence[PickleBuffer]) -> list[memoryview]:
    """Flat byte views of the buffers. Non-contiguous ones cannot occur: pickle sends those in-band."""
    return [buffer.raw() for buffer in buffers]
