"""What can go wrong, by name, and how does an error of a remote task reach the one who asks for it?

The names are Ray's, so that `except` clauses written for Ray keep working. Every error pickles with
its fields: it is rebuilt without a call of its constructor, whatever that constructor wants.

The life of a task's error:

    worker: user code raises ──► capture() ──► RayTaskError(cause=the exception, traceback as text)
                                                  │ pack_task_error()   (the cause in bytes of its own)
    owner:                                        ▼ unpack_task_error()
            get() raises error.as_instanceof_cause(): an instance of RayTaskError *and* of the cause's
            class, so that both `except ValueError` and `except RayTaskError` catch it

A cause that cannot be pickled, or cannot be read back, is replaced by a `RayError` that keeps its
type, its message and the reason; the traceback's text always arrives. A traceback shows user code
only: frames of minray itself are left out, but for the last one if nothing else remains.
"""

from __future__ import annotations

import linecache
import os
import pickle
import re
import sys
import traceback
import types
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

_PACKAGE_DIR = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep
_DUAL_TYPES_MAX = 256
_dual_types: dict[type[BaseException], type[RayTaskError] | None] = {}


def _rebuild_error(cls: type[BaseException], args: tuple[Any, ...], state: dict[str, Any]) -> BaseException:
    """Make an exception from its fields alone: its constructor may want other arguments than `args`."""
    error = _bare_instance(cls, cls, args)
    error.args = args
    error.__dict__.update(state)
    return error


def _bare_instance(
    cls: type[BaseException], model: type[BaseException], args: tuple[Any, ...]
) -> BaseException:
    """An instance of `cls` by the `__new__` of `model` or, where that refuses, of its built-in base."""
    for base in (model, *(b for b in model.__mro__ if b.__flags__ & 0x200 == 0)):  # 0x200: heap type
        try:
            instance = base.__new__(cls, *args)
        except TypeError:
            continue
        if isinstance(instance, cls):
            return instance
    raise TypeError(f"cannot make an instance of {cls.__name__} without its constructor")


# --- the root ---------------------------------------------------------------------------------
class ProtocolError(RuntimeError):
    """A peer process said something that its state does not allow: a bug of minray, never of a program."""


class RayError(Exception):
    """The root of every error that minray raises on behalf of a task, an actor or an object."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (_rebuild_error, (type(self), self.args, dict(self.__dict__)))


class RaySystemError(RayError):
    """The runtime itself failed: a bug of minray, or a machine that refuses something it needs."""

    def __init__(self, client_exc: object = "", traceback_str: str | None = None) -> None:
        super().__init__(client_exc, traceback_str)
        self.client_exc = client_exc
        self.traceback_str = traceback_str

    def __str__(self) -> str:
        text = f"System error: {self.client_exc}"
        return f"{text}\ntraceback: {self.traceback_str}" if self.traceback_str else text


class CrossLanguageError(RayError):
    """An error from a task in another language than Python. minray never raises it: it runs Python only."""

    def __init__(self, ray_exception: object = "") -> None:
        super().__init__(f"An exception raised from {ray_exception}")


class UserCodeException(RayError):
    """User code called by a library (Data, Serve) raised; its own error is `__cause__`."""


class UnserializableException(RayError):
    """A task's error arrived, but could not be read back; the text says what is known of it."""

    def __init__(self, serialized_ray_exception: str = "") -> None:
        super().__init__(serialized_ray_exception)


# --- tasks ------------------------------------------------------------------------------------
class TaskCancelledError(RayError):
    """The task was cancelled before it finished."""

    def __init__(self, task_id: object = None, error_message: str | None = None) -> None:
        super().__init__(task_id, error_message)
        self.task_id = task_id
        self.error_message = error_message

    def __str__(self) -> str:
        if self.error_message:
            return self.error_message
        who = "This task or its dependency" if self.task_id is None else f"Task: {self.task_id}"
        return f"{who} was cancelled"


class RemoteOrigin(NamedTuple):
    """Where a task failed: what `str()` of its error prints above the traceback."""

    function_name: str
    traceback_str: str
    pid: int | None
    ip: str | None
    actor_repr: str | None
    actor_id: str | None


class RayTaskError(RayError):
    """User code of a task or an actor call raised. `cause` is its exception, `str()` its remote traceback.

    `get` raises `as_instanceof_cause()`, which is an instance of the cause's class as well.
    """

    cause: BaseException
    function_name: str
    traceback_str: str
    pid: int | None
    ip: str | None
    actor_repr: str | None
    actor_id: str | None
    _origin: RemoteOrigin

    def __init__(
        self,
        function_name: str,
        traceback_str: str,
        cause: BaseException,
        proctitle: str | None = None,
        pid: int | None = None,
        ip: str | None = None,
        actor_repr: str | None = None,
        actor_id: str | None = None,
    ) -> None:
        super().__init__(function_name, traceback_str, cause)
        self.proctitle = proctitle or f"minray::{function_name}"
        origin = RemoteOrigin(function_name, traceback_str, pid, ip, actor_repr, actor_id)
        self.__dict__.update(origin._asdict(), cause=cause, _origin=origin)

    def as_instanceof_cause(self) -> RayTaskError:
        """This error as an instance of the cause's class too: what `get` raises.

        Attributes and `args` are the cause's. Where no such class can exist (a final class, an odd
        metaclass or `__new__`) or should (a `KeyboardInterrupt` or `SystemExit` ends programs), the plain
        error is returned.
        """
        cause = self.cause
        if isinstance(self, type(cause)) or isinstance(cause, (KeyboardInterrupt, SystemExit)):
            return self
        dual_type = _dual_type(type(cause))
        if dual_type is None:
            return self
        try:
            dual = _bare_instance(dual_type, type(cause), cause.args)
            assert isinstance(dual, RayTaskError)
            dual.args = cause.args
            _copy_slots(cause, dual)
        except Exception:  # the cause's own __new__ or descriptors may raise anything; plain is always right
            return self
        # The cause's own attributes win over our names of the same spelling (a user's `pid`), except
        # `cause` and the origin, from which str() and pickling work. Notes are in the traceback's text.
        mine = self.__dict__ | {k: v for k, v in vars(cause).items() if k != "__notes__"}
        dual.__dict__.update(mine, cause=cause, _origin=self._origin)
        return dual

    def __reduce__(self) -> tuple[Any, ...]:
        return (_rebuild_task_error, (self._origin, *_portable(self.cause), isinstance(self, _Dual)))

    def __str__(self) -> str:
        origin = self._origin
        where = ", ".join(
            f"{key}={value}"
            for key, value in (
                ("pid", origin.pid),
                ("ip", origin.ip),
                ("actor_id", origin.actor_id),
                ("repr", origin.actor_repr),
            )
            if value is not None
        )
        head = f"minray::{origin.function_name}()" + (f" ({where})" if where else "")
        return f"{head}\n{_with_local_sources(origin.traceback_str)}"

    def _render_traceback_(self) -> list[str]:
        """IPython's hook: the cell's own frames, without minray's, then the remote traceback once."""
        visible = _without_package_frames(self.__traceback__)
        shell_of = getattr(sys.modules.get("IPython"), "get_ipython", None)
        shell = shell_of() if shell_of is not None else None
        if shell is not None:
            renderer = shell.InteractiveTB
            offset = 0 if visible is not self.__traceback__ else renderer.tb_offset
            lines: list[str] = renderer.structured_traceback(type(self), self, visible, tb_offset=offset)
            return lines
        return "".join(traceback.format_exception(type(self), self, visible)).splitlines()


class _Dual:
    """Marks the classes made by `_dual_type`: RayTaskError and the cause's class at once."""

    def __getattr__(self, name: str) -> Any:
        # Properties and the like live in the class and are found there; this is for causes that
        # answer by a __getattr__ of their own. Protocol probes must not reach them.
        cause = self.__dict__.get("cause")
        if cause is None or name.startswith(("__", "_repr_", "_ipython_")):
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        return getattr(cause, name)


def _dual_type(cause_type: type[BaseException]) -> type[RayTaskError] | None:
    """The class that is RayTaskError and `cause_type` at once; None where Python allows no such class."""
    if cause_type in _dual_types:
        return _dual_types[cause_type]
    name = f"RayTaskError({cause_type.__name__})"
    body = {"__module__": "minray.exceptions", "__qualname__": name, "__doc__": RayTaskError.__doc__}
    made: type[RayTaskError] | None
    try:
        made = types.new_class(name, (RayTaskError, _Dual, cause_type), {}, lambda ns: ns.update(body))
    except Exception:  # a user's __init_subclass__ or metaclass may raise anything
        made = None
    while len(_dual_types) >= _DUAL_TYPES_MAX:  # classes redefined in a notebook's cells pile up here
        _dual_types.pop(next(iter(_dual_types)))
    _dual_types[cause_type] = made
    return made


def _slots(kind: type) -> Iterable[tuple[str, Any]]:
    """Fields outside `__dict__`: `__slots__`, and C members such as OSError.errno or StopIteration.value."""
    for base in kind.__mro__:
        if base in (BaseException, Exception, object, RayError, RayTaskError, _Dual):
            continue
        for name, member in vars(base).items():
            if isinstance(member, (types.MemberDescriptorType, types.GetSetDescriptorType)) and not (
                name.startswith("__") and name.endswith("__")
            ):
                yield name, member


def _copy_slots(source: BaseException, target: BaseException) -> None:
    for _, member in _slots(type(source)):
        try:
            member.__set__(target, member.__get__(source))
        except (AttributeError, TypeError):  # an unset slot, or a read-only member (args made it already)
            continue


def _portable(cause: BaseException) -> tuple[Any, ...]:
    """How the cause travels: (exception, None), or (None, fields) if only its fields can be trusted.

    Python's default rebuilds an exception as `cls(*args)`, which fails at the *reader* whenever
    `__init__` takes other arguments than it hands to `super().__init__`. Fields need no constructor.
    """
    kind = type(cause)
    if kind.__reduce__ is not BaseException.__reduce__ or kind.__reduce_ex__ is not object.__reduce_ex__:
        return (cause, None)
    if "__setstate__" in vars(kind) or "__getstate__" in vars(kind):
        return (cause, None)
    slots = {}
    for name, member in _slots(kind):
        try:
            slots[name] = member.__get__(cause)
        except AttributeError:
            continue
    return (None, (kind, cause.args, dict(vars(cause)), slots))


def _rebuild_task_error(
    origin: RemoteOrigin, cause: BaseException | None, fields: tuple[Any, ...] | None, dual: bool
) -> RayTaskError:
    if cause is None:
        assert fields is not None
        kind, args, state, slots = fields
        cause = _rebuild_error(kind, args, state)
        for name, member in _slots(kind):
            if name in slots:
                try:
                    member.__set__(cause, slots[name])
                except (AttributeError, TypeError):
                    continue
    error = RayTaskError(
        origin.function_name,
        origin.traceback_str,
        cause,
        pid=origin.pid,
        ip=origin.ip,
        actor_repr=origin.actor_repr,
        actor_id=origin.actor_id,
    )
    return error.as_instanceof_cause() if dual else error


def capture(
    function_name: str,
    exc: BaseException,
    pid: int | None = None,
    *,
    ip: str | None = None,
    actor_repr: str | None = None,
    actor_id: str | None = None,
) -> RayTaskError:
    """The error of the task `function_name` that raised `exc`, with its traceback as text.

    The exception's traceback is then dropped: its frames hold the task's locals (refs, arrays) and
    point back at the exception, so that they would live until some later garbage collection.
    An error that arrived from another task keeps that task's cause: chains do not nest.
    """
    text = format_traceback(exc)
    seen: set[int] = set()
    link: BaseException | None = exc
    while link is not None and id(link) not in seen:
        seen.add(id(link))
        link.__traceback__ = None
        link = link.__cause__ or link.__context__
    cause = exc.cause if isinstance(exc, RayTaskError) else exc
    return RayTaskError(function_name, text, cause, pid=pid, ip=ip, actor_repr=actor_repr, actor_id=actor_id)


make_task_error = capture


def pack_task_error(error: RayTaskError, dumps: Callable[[object], bytes]) -> bytes:
    """`error` as bytes. A cause that `dumps` refuses is replaced by a RayError that describes it."""
    cause = error.cause
    if isinstance(cause, RayTaskError):
        cause = cause.cause
    description = _describe(cause)
    try:
        packed_cause = dumps(_portable(cause))
    except Exception as reason:  # a user's __reduce__ may raise anything
        packed_cause = b""
        description = f"{description}; it cannot be pickled: {type(reason).__name__}: {reason}"
    return dumps((error._origin, packed_cause, description))


def unpack_task_error(data: bytes, loads: Callable[[bytes], Any]) -> RayTaskError:
    """The plain RayTaskError in `data`; its cause is a RayError if the original cannot be read here."""
    origin, packed_cause, description = loads(data)
    if packed_cause:
        try:
            cause, fields = loads(packed_cause)
            return _rebuild_task_error(origin, cause, fields, dual=False)
        except Exception as reason:  # a class that this process cannot import, a user's __setstate__, ...
            description = f"{description}; it cannot be read here: {type(reason).__name__}: {reason}"
    substitute = RayError(f"The task's own exception was {description}")
    return _rebuild_task_error(origin, substitute, None, dual=False)


def _describe(exc: BaseException) -> str:
    try:
        text = repr(exc)
    except Exception:  # a user's __repr__ may raise anything
        text = f"<{type(exc).__name__} whose repr() raises>"
    return text if len(text) <= 2000 else text[:2000] + "..."


# --- tracebacks as text -----------------------------------------------------------------------
def format_traceback(exc: BaseException) -> str:
    """The traceback of `exc` with its chain, without minray's own frames and without a header line."""
    if isinstance(exc, RayTaskError):
        # Our frames down to the failed get(), then the other task's text, once.
        stack = _visible_frames(traceback.extract_tb(exc.__traceback__))
        return "".join(stack.format()) + str(exc)
    try:
        tree = traceback.TracebackException.from_exception(exc)
        _trim(tree)
        text = "".join(tree.format())
    except Exception as reason:  # a user's __str__ or source loader may raise anything
        return f"{type(exc).__name__} (its traceback cannot be shown: {type(reason).__name__}: {reason})"
    return text.removeprefix("Traceback (most recent call last):\n").rstrip("\n")


_EXPLAINED = (RayError, TypeError, ValueError, pickle.PicklingError)


def _trim(tree: traceback.TracebackException) -> None:
    pending: list[traceback.TracebackException | None] = [tree]
    while pending:
        node = pending.pop()
        if node is not None:
            node.stack = _visible_frames(node.stack)
            if issubclass(node.exc_type or BaseException, _EXPLAINED) and all(
                _is_machinery(frame.filename) for frame in node.stack
            ):
                node.stack = traceback.StackSummary()  # raised by us, for the user: the message is what counts
            pending += [node.__cause__, node.__context__, *(getattr(node, "exceptions", None) or ())]


def _visible_frames(stack: traceback.StackSummary) -> traceback.StackSummary:
    visible = [frame for frame in stack if not _is_machinery(frame.filename)]
    # All of it ours, for example a result that cannot be pickled: one line tells where.
    return traceback.StackSummary.from_list(visible or stack[-1:])


def _is_machinery(filename: str) -> bool:
    return filename.startswith(_PACKAGE_DIR) or f"{os.sep}cloudpickle{os.sep}" in filename


def _without_package_frames(tb: types.TracebackType | None) -> types.TracebackType | None:
    """A copy of the chain `tb` without minray's frames; `tb` itself if nothing would remain."""
    kept = []
    node = tb
    while node is not None:
        name = node.tb_frame.f_code.co_filename
        if not _is_machinery(name) and f"{os.sep}IPython{os.sep}" not in name:
            kept.append(node)
        node = node.tb_next
    chain: types.TracebackType | None = None
    for node in reversed(kept):
        chain = types.TracebackType(chain, node.tb_frame, node.tb_lasti, node.tb_lineno)
    return chain if chain is not None else tb


_FRAME_LINE = re.compile(r'^  File "(?P<file>.+)", line (?P<line>\d+), in (?P<name>.+)$')


def _with_local_sources(text: str) -> str:
    """Add the source lines that only this process knows: a worker has no file for a notebook's cell."""
    lines = text.split("\n")
    cell_of = _cell_names()
    shown: list[str] = []
    for index, line in enumerate(lines):
        match = _FRAME_LINE.match(line)
        if match is None:
            shown.append(line)
            continue
        cell = cell_of(match["file"])
        shown.append(f"  {cell}, line {match['line']}, in {match['name']}" if cell else line)
        if not (index + 1 < len(lines) and lines[index + 1].startswith("    ")):
            source = linecache.getline(match["file"], int(match["line"])).strip()
            if source:
                shown.append(f"    {source}")
    return "\n".join(shown)


def _cell_names() -> Callable[[str], str]:
    """In a notebook: from a cell's file name to "Cell In[3]", as its own tracebacks call it; else to ""."""
    shell_of = getattr(sys.modules.get("IPython"), "get_ipython", None)
    shell = shell_of() if shell_of is not None else None
    naming = getattr(getattr(shell, "compile", None), "format_code_name", None)

    def name(filename: str) -> str:
        parts = naming(filename) if naming is not None else None
        return " ".join(parts) if parts else ""

    return name


# --- workers, actors --------------------------------------------------------------------------
class WorkerCrashedError(RayError):
    """The worker process died while it ran the task: exit code or signal are in the text."""

    def __str__(self) -> str:
        return super().__str__() or "The worker died unexpectedly while executing this task."


class LocalRayletDiedError(RayError):
    """The node process died under the task."""

    def __str__(self) -> str:
        return super().__str__() or (
            "The node process died, and with it every worker, actor and object of the session. Call shutdown(), then "
            "init() again; what the node said last is in logs/node.log of the session's folder."
        )


class NodeDiedError(RayError):
    """The node that held or ran something is gone."""


class OutOfMemoryError(RayError):
    """The memory monitor ended a worker before the machine ran out of memory."""


class RayActorError(RayError):
    """A call to an actor failed because the actor is dead or cannot be reached."""

    base_error_msg = "The actor experienced an error before finishing this task."

    def __init__(
        self,
        actor_id: str | None = None,
        error_msg: str | None = None,
        actor_init_failed: bool = False,
        preempted: bool = False,
    ) -> None:
        error_msg = error_msg or self.base_error_msg
        super().__init__(actor_id, error_msg, actor_init_failed, preempted)
        self.actor_id = actor_id
        self.error_msg = error_msg
        self._actor_init_failed = actor_init_failed
        self._preempted = preempted

    @property
    def actor_init_failed(self) -> bool:
        """Its constructor raised, so that it never lived."""
        return self._actor_init_failed

    @property
    def preempted(self) -> bool:
        """Its node was taken away. Never true on one machine."""
        return self._preempted

    def __str__(self) -> str:
        return self.error_msg


class ActorDiedError(RayActorError):
    """The actor is dead and does not come back. `cause` is a sentence, or its constructor's error."""

    BASE_ERROR_MSG = "The actor died unexpectedly before finishing this task."
    base_error_msg = BASE_ERROR_MSG

    def __init__(
        self,
        cause: str | RayTaskError | None = None,
        actor_id: str | None = None,
        class_name: str | None = None,
        pid: int = 0,
    ) -> None:
        init_failed = isinstance(cause, RayTaskError)
        message = self.BASE_ERROR_MSG
        if init_failed:
            message = f"The actor died because of an error raised in its creation task, {cause}"
        elif cause:
            known = (("class_name", class_name), ("actor_id", actor_id), ("pid", pid))
            who = "".join(f"\n\t{key}: {value}" for key, value in known if value)
            message = f"{self.BASE_ERROR_MSG}{who}\n{cause}"
        super().__init__(actor_id, message, actor_init_failed=init_failed)
        self.cause = cause
        self.class_name = class_name


class ActorUnavailableError(RayActorError):
    """The actor cannot be reached now (it restarts); a later call may work. The call may have run."""

    def __init__(self, error_message: str = "", actor_id: str | bytes | None = None) -> None:
        shown = actor_id.hex() if isinstance(actor_id, bytes) else actor_id
        who = f"The actor {shown}" if shown else "The actor"
        super().__init__(
            shown,
            f"{who} is unavailable: {error_message}. "
            "The task may or may not have been executed on the actor.",
        )


class ActorAlreadyExistsError(ValueError, RayError):
    """`name=` is taken by a living actor in this namespace."""


class ActorHandleNotFoundError(ValueError, RayError):
    """A handle belongs to another cluster or to an actor that this cluster does not know."""


class AsyncioActorExit(RayError):
    """Raised by `exit_actor()` inside an async actor to end it."""


class PendingCallsLimitExceeded(RayError):
    """The actor has `max_pending_calls` calls waiting already; this one was not sent."""


class TaskUnschedulableError(RayError):
    """The task cannot be placed and never will be."""

    def __init__(self, error_message: str = "") -> None:
        super().__init__(error_message)
        self.error_message = error_message

    def __str__(self) -> str:
        return f"The task is not schedulable: {self.error_message}"


class ActorUnschedulableError(RayError):
    """The actor cannot be placed and never will be."""

    def __init__(self, error_message: str = "") -> None:
        super().__init__(error_message)
        self.error_message = error_message

    def __str__(self) -> str:
        return f"The actor is not schedulable: {self.error_message}"


class TaskPlacementGroupRemoved(RayError):
    """The placement group of the task was removed before it ran."""

    def __str__(self) -> str:
        return super().__str__() or "The placement group corresponding to this task has been removed."


class ActorPlacementGroupRemoved(RayError):
    """The placement group of the actor was removed."""

    def __str__(self) -> str:
        return super().__str__() or "The placement group corresponding to this Actor has been removed."


class RuntimeEnvSetupError(RayError):
    """The `runtime_env` of a task, an actor or a job could not be made."""

    def __init__(self, error_message: str | None = None) -> None:
        super().__init__(error_message)
        self.error_message = error_message

    def __str__(self) -> str:
        detail = f"\n{self.error_message}" if self.error_message else ""
        return f"Failed to set up runtime environment.{detail}"


class RpcError(RayError):
    """A message to another process failed. Programs see what it meant (`ActorUnavailableError`, ...)."""


class AuthenticationError(RayError):
    """The other side has another token: it belongs to another cluster."""


# --- objects ----------------------------------------------------------------------------------
class GetTimeoutError(RayError, TimeoutError):
    """`get(..., timeout=...)` ended before the objects were ready. Also a `TimeoutError`."""


class PlasmaObjectNotAvailable(RayError):
    """An object is not in this node's store. minray raises ObjectLostError instead."""


class ObjectStoreFullError(RayError):
    """No room for another object; the text names who holds the most."""

    def __str__(self) -> str:
        return super().__str__() or "The object store is full and nothing can be freed or spilled."


class OutOfDiskError(RayError):
    """The disk to which objects are spilled is full."""


class ObjectLostError(RayError):
    """No copy of the object is left, and it is not rebuilt."""

    reason = "All copies of the object have been lost."

    def __init__(
        self, object_ref_hex: str = "", owner_address: str | None = None, call_site: str = ""
    ) -> None:
        super().__init__(object_ref_hex, owner_address, call_site)
        self.object_ref_hex = object_ref_hex
        self.owner_address = owner_address
        self.call_site = call_site

    def __str__(self) -> str:
        text = f"Failed to retrieve object {self.object_ref_hex}. {self.reason}"
        return f"{text}\nThe ref was created at: {self.call_site}" if self.call_site else text


class ObjectFetchTimedOutError(ObjectLostError):
    """A copy exists, but its transfer did not finish."""

    reason = "Fetching it from another node timed out."


class ObjectFreedError(ObjectLostError):
    """The object was freed by hand while refs to it remained."""

    reason = "It was freed explicitly while references to it remained."


class OwnerDiedError(ObjectLostError):
    """The process that created the ref is gone, and with it the object's entry."""

    reason = (
        "Its owner (the process that created the reference by `.remote()` or `put()`) has exited, "
        "so that the object's value is no longer known."
    )

    def __str__(self) -> str:
        known = f"\nWhat is known of its end: {self.owner_address}" if self.owner_address else ""
        return super().__str__() + known


class ReferenceCountingAssertionError(ObjectLostError, AssertionError):
    """The object was freed although references to it remain: a bug of minray."""

    reason = "It was deleted although references to it remain. This is a bug of minray."


class ObjectReconstructionFailedError(ObjectLostError):
    """The object is lost and cannot be rebuilt (it came from `put()`, or from an actor)."""

    reason = "It is lost and cannot be computed again: it came from put() or from an actor's call."


class ObjectReconstructionFailedMaxAttemptsExceededError(ObjectReconstructionFailedError):
    """The object is lost; its task was repeated as often as `max_retries` allows."""

    reason = "It is lost, and its task was repeated as often as max_retries allows."


class ObjectReconstructionFailedLineageEvictedError(ObjectReconstructionFailedError):
    """The object is lost; how it was computed had been forgotten to save memory."""

    reason = "It is lost, and how it was computed had been forgotten to save memory."


class ObjectRefStreamEndOfStreamError(RayError):
    """A streaming generator has no further object."""


class StreamingGeneratorReplayInconsistentError(RayError):
    """A streaming generator that ran again yielded other objects than before."""


class OufOfBandObjectRefSerializationException(RayError):  # Ray's spelling
    """An ObjectRef was pickled outside of a call, a result or `put()`, where nobody counts it."""


# --- channels of compiled graphs: the names only, minray has no compiled graphs ------------------
class RayChannelError(RaySystemError):
    """A channel of a compiled graph failed."""


class RayChannelTimeoutError(RayChannelError, TimeoutError):
    """A channel of a compiled graph was not ready in time."""


class RayDirectTransportError(RaySystemError):
    """A tensor could not be sent from device to device. minray sends tensors through shared memory."""


class RayCgraphCapacityExceeded(RaySystemError):
    """A compiled graph holds too many unfinished executions."""


PUBLIC_ERRORS: tuple[type[BaseException], ...] = tuple(
    value for value in list(globals().values()) if isinstance(value, type) and issubclass(value, RayError)
)
for _error in PUBLIC_ERRORS:
    _error.__module__ = "minray.exceptions"  # where programs import them from, as tracebacks should say
del _error
