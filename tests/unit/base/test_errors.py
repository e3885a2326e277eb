"""Does a task's error reach the caller as both RayTaskError and its cause's class, whatever that class is?"""

from __future__ import annotations

import copy
import enum
import pickle
import threading
from typing import Any, Self

import cloudpickle
import pytest

from minray import exceptions
from minray.base import errors
from minray.base.errors import (
    ActorDiedError,
    GetTimeoutError,
    ProtocolError,
    RayActorError,
    RayError,
    RayTaskError,
    capture,
    pack_task_error,
    unpack_task_error,
)


class TwoArguments(Exception):
    """Python's default pickling cannot rebuild this: __init__ wants more than `args` holds."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(f"{code}: {reason}")
        self.code = code


class Slotted(Exception):
    __slots__ = ("depth",)

    def __init__(self, depth: int) -> None:
        super().__init__()
        self.depth = depth


class Final(Exception):
    def __init_subclass__(cls, **kwargs: object) -> None:
        raise TypeError("no subclasses")


class HasPid(Exception):
    pid = 0


class KeywordNew(Exception):
    def __new__(cls, *, reason: str) -> Self:
        return super().__new__(cls, reason)

    def __init__(self, *, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Answers(Exception):
    def __getattr__(self, name: str) -> str:
        if name.startswith("_"):
            raise AttributeError(name)
        return f"answer {name}"


class Unpicklable(Exception):
    def __init__(self) -> None:
        super().__init__("holds a lock")
        self.lock = threading.Lock()


class Unreadable(Exception):
    def __setstate__(self, state: object) -> None:
        raise RuntimeError("cannot be read")


def error_of(cause: BaseException, name: str = "f") -> RayTaskError:
    try:
        raise cause
    except BaseException as exc:
        return capture(name, exc, pid=42)


def through_the_wire(error: RayTaskError) -> RayTaskError:
    return unpack_task_error(pack_task_error(error, cloudpickle.dumps), cloudpickle.loads)


ORDINARY = [
    ValueError("boom"),
    KeyError("k"),
    OSError(2, "gone", "/x"),
    UnicodeDecodeError("utf-8", b"\xff", 0, 1, "bad"),
    StopIteration(7),
    ImportError("no", name="n", path="p"),
    SyntaxError("bad", ("f.py", 1, 2, "text")),
    AssertionError(),
    TwoArguments(3, "x"),
    Slotted(5),
    KeywordNew(reason="r"),
    HasPid("x"),
    Answers("x"),
    ExceptionGroup("many", [ValueError(1), KeyError(2)]),
    TimeoutError("late"),
]


@pytest.mark.parametrize("cause", ORDINARY, ids=lambda c: type(c).__name__)
def test_dual_error_is_both_and_survives_the_wire_and_pickle(cause: Exception) -> None:
    dual = through_the_wire(error_of(cause)).as_instanceof_cause()
    for error in (dual, pickle.loads(pickle.dumps(dual)), copy.copy(dual)):
        assert isinstance(error, RayTaskError)
        assert isinstance(error, type(cause))
        assert type(error.cause) is type(cause)
        assert [str(a) for a in error.args] == [str(a) for a in cause.args]
        assert error.function_name == "f"
        assert "minray::f() (pid=42)" in str(error)
        assert type(error).__name__ == f"RayTaskError({type(cause).__name__})"


def test_dual_classes_are_made_once_per_class() -> None:
    one, two = (error_of(ValueError(i)).as_instanceof_cause() for i in range(2))
    assert type(one) is type(two)
    assert one.as_instanceof_cause() is one


def test_fields_outside_the_dict_are_forwarded() -> None:
    missing: Any = through_the_wire(error_of(FileNotFoundError(2, "gone", "/x"))).as_instanceof_cause()
    assert (missing.errno, missing.strerror, missing.filename) == (2, "gone", "/x")
    stop: Any = through_the_wire(error_of(StopIteration(7))).as_instanceof_cause()
    assert stop.value == 7
    slotted: Any = through_the_wire(error_of(Slotted(5))).as_instanceof_cause()
    assert (slotted.depth, slotted.cause.depth) == (5, 5)
    decode: Any = through_the_wire(error_of(UnicodeDecodeError("utf-8", b"\xff", 0, 1, "bad")))
    assert decode.as_instanceof_cause().start == 0
    lost: Any = through_the_wire(error_of(ImportError("no", name="n"))).as_instanceof_cause()
    assert lost.name == "n"


def test_attributes_of_the_cause_are_forwarded() -> None:
    error: Any = through_the_wire(error_of(TwoArguments(3, "x"))).as_instanceof_cause()
    assert error.code == 3
    answering: Any = error_of(Answers("x")).as_instanceof_cause()
    assert answering.anything == "answer anything"
    with pytest.raises(AttributeError):
        _ = answering.__len__
    own_pid: Any = error_of(HasPid("x"))
    own_pid.cause.pid = 99
    assert own_pid.as_instanceof_cause().pid == 99
    assert "(pid=42)" in str(own_pid.as_instanceof_cause())


def test_an_exception_group_can_be_split_by_except_star() -> None:
    dual = error_of(ExceptionGroup("many", [ValueError(1), KeyError(2)])).as_instanceof_cause()
    caught: list[Exception] = []
    try:
        raise dual
    except* ValueError as group:
        caught.extend(group.exceptions)
    except* KeyError as group:
        caught.extend(group.exceptions)
    assert [type(e) for e in caught] == [ValueError, KeyError]


@pytest.mark.parametrize("cause", [Final("x"), KeyboardInterrupt(), SystemExit(3)], ids=repr)
def test_classes_that_allow_no_subclass_fall_back_to_the_plain_error(cause: BaseException) -> None:
    error = error_of(cause)
    assert error.as_instanceof_cause() is error
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is RayTaskError
    assert type(again.cause) is type(cause)


def test_enum_like_metaclasses_are_tolerated() -> None:
    class Meta(type):
        def __call__(cls, *args: object, **kwargs: object) -> Any:
            raise TypeError("never call me")

    class Odd(Exception, metaclass=Meta):
        pass

    cause = Odd.__new__(Odd, "x")
    error = RayTaskError("f", "text", cause)
    assert isinstance(error.as_instanceof_cause(), Odd)
    assert issubclass(enum.Enum, object)


def test_a_chain_of_tasks_keeps_the_first_cause_and_shows_each_traceback_once() -> None:
    def inner() -> None:
        raise ValueError("boom")

    def outer(error: BaseException) -> None:
        raise error

    def run(name: str, function: Any, *args: object) -> RayTaskError:
        try:
            function(*args)
        except Exception as exc:
            return through_the_wire(capture(name, exc, pid=1))
        raise AssertionError

    first = run("inner", inner).as_instanceof_cause()
    second = run("outer", outer, first).as_instanceof_cause()
    third = pickle.loads(pickle.dumps(run("third", outer, second))).as_instanceof_cause()
    assert type(third) is type(first)
    assert type(third.cause) is ValueError
    text = str(third)
    assert text.count("ValueError: boom") == 1
    assert [text.count(f"minray::{n}()") for n in ("third", "outer", "inner")] == [1, 1, 1]
    assert text.index("third") < text.index("outer") < text.index("inner")


def test_the_remote_traceback_shows_user_frames_only() -> None:
    error = error_of(ValueError("boom"))
    assert "error_of" in str(error)
    assert "raise cause" in str(error)
    assert str(error).endswith("ValueError: boom")
    assert "Traceback (most recent call last)" not in str(error)

    def reads_the_wire() -> None:
        unpack_task_error(b"", lambda data: (_ for _ in ()).throw(ValueError("inside")))

    try:
        reads_the_wire()
    except ValueError as exc:
        text = str(capture("g", exc, pid=1))
    assert "reads_the_wire" in text
    assert 'errors.py", line' not in text.replace("test_errors.py", "")


def test_notes_and_explicit_causes_are_part_of_the_remote_text() -> None:
    try:
        try:
            raise KeyError("first")
        except KeyError as first:
            second = ValueError("second")
            second.add_note("a note")
            raise second from first
    except ValueError as exc:
        text = str(capture("f", exc, pid=1).as_instanceof_cause())
    assert "KeyError: 'first'" in text
    assert "direct cause" in text
    assert text.count("a note") == 1


def test_captured_frames_are_let_go() -> None:
    exc = ValueError("x")
    try:
        raise exc from KeyError("y")
    except ValueError:
        capture("f", exc)
    assert exc.__traceback__ is None
    assert exc.__cause__ is not None
    assert exc.__cause__.__traceback__ is None


def test_a_cause_that_cannot_be_pickled_keeps_its_message_and_says_why() -> None:
    error = through_the_wire(error_of(Unpicklable()))
    assert type(error.cause) is RayError
    assert "holds a lock" in str(error.cause)
    assert "cannot be pickled" in str(error.cause)
    assert "Unpicklable: holds a lock" in str(error)
    assert error.as_instanceof_cause() is error


def test_a_cause_that_cannot_be_read_back_keeps_its_message_and_says_why() -> None:
    cause = Unreadable("precious")
    cause.field = 1  # type: ignore[attr-defined]
    error = through_the_wire(error_of(cause))
    assert "precious" in str(error.cause)
    assert "cannot be read" in str(error.cause)


def test_a_broken_str_of_the_cause_does_not_break_the_report() -> None:
    class BrokenStr(Exception):
        def __str__(self) -> str:
            raise RuntimeError("no text")

        __repr__ = __str__

    error = through_the_wire(error_of(BrokenStr()))
    assert "BrokenStr" in str(error)


@pytest.mark.parametrize("kind", errors.PUBLIC_ERRORS, ids=lambda k: k.__name__)
def test_every_error_pickles_with_its_fields(kind: type[BaseException]) -> None:
    if kind is RayTaskError:
        pytest.skip("has tests of its own")
    arguments: tuple[Any, ...] = () if kind.__init__ is not Exception.__init__ else ("text",)
    error = kind(*arguments)
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is kind
    assert str(again) == str(error)
    assert vars(again) == vars(error)
    assert kind.__name__ in exceptions.__all__
    assert getattr(exceptions, kind.__name__) is kind
    assert kind.__doc__


def test_actor_errors_carry_id_and_cause() -> None:
    died = ActorDiedError("It was killed by signal 9.", actor_id="ab" * 8, class_name="Counter")
    again = pickle.loads(pickle.dumps(died))
    assert again.actor_id == "ab" * 8
    assert "signal 9" in str(again)
    assert "Counter" in str(again)
    assert not again.actor_init_failed
    failed = ActorDiedError(error_of(ValueError("bad start"), "Counter.__init__"))
    assert failed.actor_init_failed
    assert "creation task" in str(failed)
    assert "ValueError: bad start" in str(pickle.loads(pickle.dumps(failed)))
    assert issubclass(ActorDiedError, RayActorError)


def test_families_are_those_of_ray() -> None:
    assert issubclass(GetTimeoutError, TimeoutError)
    assert issubclass(errors.OwnerDiedError, errors.ObjectLostError)
    assert issubclass(errors.ActorUnavailableError, RayActorError)
    assert not issubclass(ProtocolError, RayError)


def test_a_notebook_sees_the_remote_traceback_once() -> None:
    dual = error_of(ValueError("boom")).as_instanceof_cause()
    try:
        raise dual
    except ValueError as caught:
        lines = caught._render_traceback_()  # type: ignore[attr-defined]
    text = "\n".join(lines)
    assert text.count("ValueError: boom") == 1
    assert "raise dual" in text


def test_cells_are_named_and_quoted_as_the_notebook_knows_them() -> None:
    shell_module = pytest.importorskip("IPython.core.interactiveshell")
    shell = shell_module.InteractiveShell()
    shell_module.InteractiveShell._instance = shell
    try:
        shell.run_cell("def f():\n    return 1 / 0\n", store_history=True)
        filename = shell.user_ns["f"].__code__.co_filename
        error = RayTaskError(
            "f", f'  File "{filename}", line 2, in f\nZeroDivisionError: x', ZeroDivisionError("x")
        )
        assert str(error).splitlines()[1:] == [
            "  Cell In[1], line 2, in f",
            "    return 1 / 0",
            "ZeroDivisionError: x",
        ]
    finally:
        shell_module.InteractiveShell._instance = None
