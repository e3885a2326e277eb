"""Do failures travel as Ray's do: types, causes, chains, and through other tasks?"""

from __future__ import annotations

import importlib
import os
import pickle
import sys
import threading
from typing import Any

import pytest

ray: Any = importlib.import_module(os.environ.get("MINRAY_PARITY_ENGINE", "minray"))

pytestmark = pytest.mark.usefixtures("cluster")


def test_an_error_is_its_cause_and_a_ray_task_error() -> None:
    @ray.remote
    def fail() -> None:
        raise ValueError("broken")

    with pytest.raises(ValueError) as caught:
        ray.get(fail.remote())
    assert isinstance(caught.value, ray.exceptions.RayTaskError)
    assert isinstance(caught.value, ray.exceptions.RayError)
    assert isinstance(caught.value.cause, ValueError)
    assert caught.value.cause.args == ("broken",)


def test_the_text_of_an_error_holds_the_remote_traceback() -> None:
    @ray.remote
    def fail() -> None:
        a_name_on_the_failing_line = 1
        raise KeyError(f"broken {a_name_on_the_failing_line}")

    with pytest.raises(KeyError) as caught:
        ray.get(fail.remote())
    text = str(caught.value)
    assert "broken 1" in text
    assert "fail" in text
    assert "test_parity_errors.py" in text


def test_as_instanceof_cause_gives_the_same_double_type() -> None:
    @ray.remote
    def fail() -> None:
        raise IndexError("x")

    with pytest.raises(ray.exceptions.RayTaskError) as caught:
        ray.get(fail.remote())
    again = caught.value.as_instanceof_cause()
    assert isinstance(again, IndexError)


def test_a_custom_exception_with_an_odd_constructor_arrives() -> None:
    class OddError(Exception):
        def __init__(self, code: int, *, detail: str) -> None:
            super().__init__(f"code {code}: {detail}")
            self.code = code
            self.detail = detail

        def __reduce__(self) -> Any:
            return _rebuild_odd, (type(self), self.code, self.detail)

    @ray.remote
    def fail() -> None:
        raise OddError(7, detail="seven")

    with pytest.raises(ray.exceptions.RayTaskError) as caught:
        ray.get(fail.remote())
    assert caught.value.cause.code == 7
    assert caught.value.cause.detail == "seven"


def _rebuild_odd(kind: Any, code: int, detail: str) -> Exception:
    return kind(code, detail=detail)


_rebuild_odd.__module__ = "__main__"  # by value in both engines


def test_an_exception_whose_constructor_refuses_to_unpickle_still_arrives_as_a_task_error() -> None:
    class TwoArgumentsError(Exception):
        def __init__(self, a: int, b: int) -> None:
            super().__init__("one text")

    @ray.remote
    def fail() -> None:
        raise TwoArgumentsError(1, 2)

    with pytest.raises(ray.exceptions.RayError) as caught:
        ray.get(fail.remote())
    assert "TwoArgumentsError" in str(caught.value)


def test_an_unpicklable_exception_still_arrives_as_a_task_error() -> None:
    @ray.remote
    def fail() -> None:
        error = RuntimeError("locked")
        error.lock = threading.Lock()  # type: ignore[attr-defined]
        raise error

    with pytest.raises(ray.exceptions.RayError) as caught:
        ray.get(fail.remote())
    assert "locked" in str(caught.value)


def test_an_unpicklable_result_is_an_error_of_that_task() -> None:
    @ray.remote
    def make() -> Any:
        return threading.Lock()

    with pytest.raises(TypeError):
        ray.get(make.remote())


def test_an_unpicklable_argument_fails_at_the_call() -> None:
    @ray.remote
    def f(x: object) -> None: ...

    with pytest.raises(TypeError):
        f.remote(threading.Lock())


def test_an_unpicklable_closure_fails_at_the_call() -> None:
    lock = threading.Lock()

    @ray.remote
    def f() -> bool:
        return lock.locked()

    with pytest.raises(TypeError):
        f.remote()


def test_a_chained_exception_keeps_both_texts() -> None:
    @ray.remote
    def fail() -> None:
        try:
            raise KeyError("first")
        except KeyError as error:
            raise ValueError("second") from error

    with pytest.raises(ValueError) as caught:
        ray.get(fail.remote())
    assert "first" in str(caught.value)
    assert "second" in str(caught.value)


def test_an_error_crosses_nested_tasks_as_its_cause() -> None:
    @ray.remote
    def inner() -> None:
        raise ZeroDivisionError("deep")

    @ray.remote
    def outer() -> None:
        ray.get(inner.remote())

    with pytest.raises(ZeroDivisionError, match="deep"):
        ray.get(outer.remote())


def test_an_error_is_caught_by_its_type_inside_a_task() -> None:
    @ray.remote
    def inner() -> None:
        raise ZeroDivisionError

    @ray.remote
    def outer() -> str:
        try:
            ray.get(inner.remote())
        except ZeroDivisionError:
            return "caught"
        return "missed"

    assert ray.get(outer.remote()) == "caught"


def test_an_error_as_an_argument_fails_the_dependent_with_the_same_cause() -> None:
    @ray.remote
    def fail() -> None:
        raise ValueError("origin")

    @ray.remote
    def after(x: object) -> str:
        return "ran"

    with pytest.raises(ValueError, match="origin"):
        ray.get(after.remote(fail.remote()))


def test_one_error_in_a_list_raises_it() -> None:
    @ray.remote
    def maybe(i: int) -> int:
        if i == 2:
            raise ValueError("two")
        return i

    refs = [maybe.remote(i) for i in range(4)]
    with pytest.raises(ValueError, match="two"):
        ray.get(refs)
    assert ray.get(refs[3]) == 3


def test_an_error_is_raised_at_each_get() -> None:
    @ray.remote
    def fail() -> None:
        raise ValueError("again")

    ref = fail.remote()
    for _ in range(2):
        with pytest.raises(ValueError, match="again"):
            ray.get(ref)


def test_wait_counts_a_failed_task_as_ready() -> None:
    @ray.remote
    def fail() -> None:
        raise ValueError

    ref = fail.remote()
    assert ray.wait([ref], timeout=30) == ([ref], [])


def test_an_exception_returned_is_a_value() -> None:
    @ray.remote
    def give() -> Exception:
        return ValueError("a value")

    got = ray.get(give.remote())
    assert type(got) is ValueError
    assert got.args == ("a value",)


def test_an_exception_put_is_a_value() -> None:
    got = ray.get(ray.put(KeyError("k")))
    assert type(got) is KeyError


def test_system_exit_in_a_task_is_an_error_and_the_next_task_runs() -> None:
    @ray.remote(max_retries=0)
    def leave() -> None:
        sys.exit(3)

    @ray.remote
    def fine() -> int:
        return 1

    with pytest.raises(ray.exceptions.RayError):
        ray.get(leave.remote())
    assert ray.get(fine.remote()) == 1


def test_keyboard_interrupt_like_base_exceptions_do_not_hang() -> None:
    class Stop(BaseException):
        pass

    @ray.remote(max_retries=0)
    def stop() -> None:
        raise Stop("base")

    with pytest.raises(ray.exceptions.RayError):
        ray.get(stop.remote(), timeout=20)


def test_stop_iteration_crosses_as_an_error() -> None:
    @ray.remote
    def stop() -> None:
        raise StopIteration("done")

    with pytest.raises(ray.exceptions.RayTaskError, match="done"):
        ray.get(stop.remote())


def test_assertion_errors_keep_their_type() -> None:
    @ray.remote
    def check() -> None:
        assert 1 + 1 == 3, "arithmetic"

    with pytest.raises(AssertionError, match="arithmetic"):
        ray.get(check.remote())


def test_exception_attributes_survive() -> None:
    @ray.remote
    def missing() -> None:
        open("/no/such/file")

    with pytest.raises(FileNotFoundError) as caught:
        ray.get(missing.remote())
    assert caught.value.cause.errno == 2
    assert caught.value.cause.filename == "/no/such/file"


def test_a_task_error_pickles() -> None:
    @ray.remote
    def fail() -> None:
        raise ValueError("portable")

    with pytest.raises(ray.exceptions.RayTaskError) as caught:
        ray.get(fail.remote())
    again = pickle.loads(pickle.dumps(caught.value.cause))
    assert isinstance(again, ValueError)


def test_a_slow_get_times_out_with_get_timeout_error() -> None:
    @ray.remote
    def slow() -> None:
        import time

        time.sleep(0.4)

    ref = slow.remote()
    with pytest.raises(ray.exceptions.GetTimeoutError):
        ray.get(ref, timeout=0.05)
    with pytest.raises(TimeoutError):
        ray.get(ref, timeout=0)
    assert ray.get(ref) is None


def test_the_exception_names_exist_and_inherit() -> None:
    names = ray.exceptions
    for name in (
        "RayError RayTaskError RayActorError ActorDiedError ActorUnavailableError TaskCancelledError GetTimeoutError "
        "WorkerCrashedError ObjectLostError ObjectStoreFullError OutOfMemoryError RuntimeEnvSetupError "
        "ObjectFreedError OwnerDiedError ReferenceCountingAssertionError TaskUnschedulableError "
        "ActorUnschedulableError PendingCallsLimitExceeded NodeDiedError LocalRayletDiedError RaySystemError "
        "AsyncioActorExit CrossLanguageError TaskPlacementGroupRemoved ActorPlacementGroupRemoved"
    ).split():
        assert hasattr(names, name), name
    assert issubclass(names.ActorDiedError, names.RayActorError)
    assert issubclass(names.GetTimeoutError, TimeoutError)
    assert issubclass(names.OwnerDiedError, names.ObjectLostError)
    assert not issubclass(names.RayActorError, names.RayTaskError)
