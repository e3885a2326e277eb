"""What does a user hold for a value that may not exist yet?

An `ObjectRef`. It *is* the owner's entry for the object: readiness, value, waiters and the task that
makes it are its fields, so that `wait` costs no message, and CPython's own reference count is the
count of local handles. A `BorrowedRef` stands for an object that another process owns; its last drop
is reported there.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Generator
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from minray.base import ids
from minray.base.errors import LocalRayletDiedError
from minray.serialization.errors import dump_error
from minray.serialization.values import FAILED, PENDING, collecting

if TYPE_CHECKING:
    from concurrent.futures import Future

T = TypeVar("T")

core: Any = None
"""The process's core worker (set by `minray.worker.core`); None outside a cluster."""


def _live_core() -> Any:
    """Raises: LocalRayletDiedError outside a cluster."""
    if core is None:
        raise LocalRayletDiedError("The cluster of this reference was shut down.")
    return core


class ObjectRef(Generic[T]):
    """A reference to a value that a task returns or `put` stored. Pass it on, or `get` it.

    Equal and hashable by id; `await`able; `.future()` gives a `concurrent.futures.Future`.
    """

    __slots__ = ("n", "owner", "st", "v", "w", "task", "pins", "t", "__weakref__")

    n: int
    owner: bytes
    st: int
    v: Any
    w: list[Callable[[], Any]] | None
    task: Any
    pins: int
    t: float  # when it was submitted; 0.0 for what is no task

    def __init__(self, id: bytes | None = None) -> None:
        raise TypeError("an ObjectRef is made by f.remote(...) or put(...), not by hand")

    # ---------------------------------------------------------------- identity
    def binary(self) -> bytes:
        """28 bytes."""
        return ids.object_id_bytes(self.owner, self.n)

    def hex(self) -> str:
        """56 hexadecimal digits."""
        return ids.object_id_hex(self.owner, self.n)

    def task_id(self) -> ids.TaskID:
        """The task that makes the value (of a `put`: an id of its own)."""
        return ids.TaskID(bytes.fromhex(ids.task_id_hex(self.owner, self.n)))

    def job_id(self) -> ids.JobID:
        """The job of this process."""
        return ids.JobID(core.job_id.to_bytes(4, "little"))

    def is_nil(self) -> bool:
        """Whether it stands for no object: see `nil`."""
        return self.owner == ids.NIL_OWNER

    @classmethod
    def nil(cls) -> ObjectRef[Any]:
        """The reference to no object; a generator's `_next_sync` answers it when nothing came in time."""
        ref = make_ref(ids.NIL_OWNER, ids.NIL_NUMBER)
        ref.v = dump_error(ValueError("This is the nil ObjectRef: it refers to no object, so it has no value."))
        ref.st = FAILED
        return ref

    @classmethod
    def size(cls) -> int:
        """Bytes of an id."""
        return ids.OBJECT_ID_BYTES

    def __eq__(self, other: object) -> bool:
        return self is other or (
            isinstance(other, ObjectRef) and other.n == self.n and other.owner == self.owner
        )

    def __hash__(self) -> int:
        return hash((self.n, self.owner))

    def __repr__(self) -> str:
        return f"ObjectRef({self.hex()})"

    # ---------------------------------------------------------------- waiting
    def future(self) -> Future[T]:
        """A `concurrent.futures.Future` of the value (or of the task's exception)."""
        return _live_core().future_of(self)  # type: ignore[no-any-return]

    def as_future(self, _internal: bool = False) -> Any:
        """An asyncio future of the value; needs a running event loop."""
        return _live_core().asyncio_future_of(self)

    def __await__(self) -> Generator[Any, None, T]:
        return _live_core().asyncio_future_of(self).__await__()  # type: ignore[no-any-return]

    def _on_completed(self, callback: Callable[[Any], None]) -> None:
        """Call `callback(value)` when the value is there, from a thread of the runtime."""
        self.future().add_done_callback(lambda future: callback(future.exception() or future.result()))

    # ---------------------------------------------------------------- passing on
    def __reduce__(self) -> tuple[Any, ...]:
        refs = collecting.refs
        if refs is None:
            # Pickled by hand: nobody can tell when the bytes are gone, so the object stays.
            core.pin_for_ever(self)
        else:
            refs.append(self)
        return _rebuild, (self.owner, self.n)


class BorrowedRef(ObjectRef[T]):
    """A handle on an object of another process. `anchor` keeps it alive there until we are counted.

    `held`: the owner counts this handle. The last drop is reported to it, in batches.
    """

    __slots__ = ("anchor", "held")

    anchor: Any
    held: bool

    def __del__(self) -> None:
        # Only a deque append and a nudge: this may run in any thread, inside the garbage collector.
        try:
            if self.held:
                core.dropped.append((self.owner, self.n))
                if not core.loop.busy:
                    core.loop.pend()
        except (AttributeError, OSError):
            pass  # half made, or the process is at its end

    def __repr__(self) -> str:
        return f"ObjectRef({self.hex()})"


ObjectID = ObjectRef  # Ray's older name


def _rebuild(owner: bytes, number: int) -> ObjectRef[Any]:
    """Called by pickle for each reference in a value."""
    if core is None:
        raise RuntimeError("an ObjectRef can only be unpickled inside a running cluster: call init() first")
    return core.rebuild_ref(owner, number)  # type: ignore[no-any-return]


def make_ref(owner: bytes, number: int) -> ObjectRef[Any]:
    """A fresh own reference, pending."""
    ref: ObjectRef[Any] = ObjectRef.__new__(ObjectRef)
    ref.n = number
    ref.owner = owner
    ref.st = PENDING
    ref.v = None
    ref.w = None
    ref.task = None
    ref.pins = 0
    ref.t = 0.0
    return ref


def make_borrowed(owner: bytes, number: int) -> BorrowedRef[Any]:
    """A fresh handle on somebody else's object, not yet counted there."""
    ref: BorrowedRef[Any] = BorrowedRef.__new__(BorrowedRef)
    ref.n = number
    ref.owner = owner
    ref.st = PENDING
    ref.v = None
    ref.w = None
    ref.task = None
    ref.pins = 0
    ref.t = 0.0
    ref.anchor = None
    ref.held = False
    return ref


class RefListEnvelope:
    """Pickles an exact list of one owner's references as one array of numbers (ten times faster)."""

    __slots__ = ("refs",)

    def __init__(self, refs: list[ObjectRef[Any]]) -> None:
        self.refs = refs

    def __reduce__(self) -> tuple[Any, ...]:
        collected = collecting.refs
        if collected is not None:
            collected.extend(self.refs)
        return rebuild_list, (self.refs[0].owner, array("Q", [ref.n for ref in self.refs]))


def rebuild_list(owner: bytes, numbers: Any) -> list[ObjectRef[Any]]:
    """Called by pickle for an exact list of references of one owner."""
    return core.rebuild_refs(owner, numbers)  # type: ignore[no-any-return]
