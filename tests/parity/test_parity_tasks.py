"""Do remote functions behave as Ray's: arguments, results, nesting, options, refusals?"""

from __future__ import annotations

import functools
import importlib
import os
import signal
import time
from typing import Any

import pytest

ray: Any = importlib.import_module(os.environ.get("MINRAY_PARITY_ENGINE", "minray"))

pytestmark = pytest.mark.usefixtures("cluster")


def test_a_task_returns_its_value() -> None:
    @ray.remote
    def add(a: int, b: int) -> int:
        return a + b

    assert ray.get(add.remote(1, 2)) == 3


def test_keyword_arguments_and_defaults_arrive() -> None:
    @ray.remote
    def show(a: int, b: int = 2, *rest: int, c: int = 3, **more: int) -> tuple[Any, ...]:
        return a, b, rest, c, more

    assert ray.get(show.remote(1)) == (1, 2, (), 3, {})
    assert ray.get(show.remote(1, c=9, z=4)) == (1, 2, (), 9, {"z": 4})
    assert ray.get(show.remote(1, 5, 6, 7, c=8)) == (1, 5, (6, 7), 8, {})


def test_a_ref_as_argument_is_resolved_by_position_and_by_keyword() -> None:
    @ray.remote
    def pair(a: object, b: object) -> tuple[object, object]:
        return a, b

    ref = ray.put("x")
    assert ray.get(pair.remote(ref, b=ref)) == ("x", "x")


def test_a_nested_ref_arrives_as_a_ref() -> None:
    @ray.remote
    def look(box: list[Any], named: dict[str, Any]) -> tuple[bool, bool, object]:
        return isinstance(box[0], ray.ObjectRef), isinstance(named["k"], ray.ObjectRef), ray.get(box[0])

    ref = ray.put(41)
    assert ray.get(look.remote([ref], {"k": ref})) == (True, True, 41)


def test_a_ref_inside_a_result_stays_a_ref() -> None:
    @ray.remote
    def make() -> list[Any]:
        return [ray.put("inner")]

    (inner,) = ray.get(make.remote())
    assert isinstance(inner, ray.ObjectRef)
    assert ray.get(inner) == "inner"


def test_a_ref_returned_at_top_level_is_not_resolved() -> None:
    @ray.remote
    def make() -> Any:
        return ray.put("inner")

    inner = ray.get(make.remote())
    assert isinstance(inner, ray.ObjectRef)
    assert ray.get(inner) == "inner"


def test_tasks_chain_over_refs() -> None:
    @ray.remote
    def inc(x: int) -> int:
        return x + 1

    ref = inc.remote(0)
    for _ in range(9):
        ref = inc.remote(ref)
    assert ray.get(ref) == 10


def test_num_returns_zero_gives_none() -> None:
    @ray.remote(num_returns=0)
    def nothing() -> None:
        return None

    assert nothing.remote() is None


def test_num_returns_two_gives_two_refs() -> None:
    @ray.remote(num_returns=2)
    def two() -> tuple[int, int]:
        return 1, 2

    a, b = two.remote()
    assert ray.get([a, b]) == [1, 2]
    assert isinstance(two.remote(), list)


def test_num_returns_accepts_a_list_or_any_sequence() -> None:
    @ray.remote(num_returns=3)
    def three() -> list[int]:
        return [1, 2, 3]

    assert ray.get(three.remote()) == [1, 2, 3]


def test_the_wrong_number_of_results_is_a_value_error() -> None:
    @ray.remote(num_returns=3)
    def two() -> tuple[int, int]:
        return 1, 2

    refs = two.remote()
    assert len(refs) == 3
    for ref in refs:
        with pytest.raises(ValueError, match="num_returns|returned"):
            ray.get(ref)


def test_num_returns_two_with_one_plain_value_is_an_error() -> None:
    @ray.remote(num_returns=2)
    def one() -> int:
        return 1

    with pytest.raises((TypeError, ValueError)):
        ray.get(one.remote())


def test_options_change_one_call_and_not_the_function() -> None:
    @ray.remote
    def two() -> tuple[int, int]:
        return 1, 2

    assert ray.get(two.options(num_returns=2).remote()) == [1, 2]
    assert ray.get(two.remote()) == (1, 2)


def test_a_direct_call_is_a_type_error_that_names_remote() -> None:
    @ray.remote
    def f() -> int:
        return 1

    with pytest.raises(TypeError, match=r"cannot be called directly.*\.remote\(\)"):
        f()


def test_too_many_arguments_are_a_type_error_at_the_call() -> None:
    @ray.remote
    def f(a: int) -> int:
        return a

    with pytest.raises(TypeError):
        f.remote(1, 2)


def test_a_missing_argument_is_a_type_error_at_the_call() -> None:
    @ray.remote
    def f(a: int) -> int:
        return a

    with pytest.raises(TypeError, match="a"):
        f.remote()


def test_an_unknown_keyword_is_a_type_error_at_the_call() -> None:
    @ray.remote
    def f(a: int) -> int:
        return a

    with pytest.raises(TypeError):
        f.remote(a=1, b=2)


def test_an_unknown_option_is_refused_at_once() -> None:
    with pytest.raises((ValueError, TypeError)):

        @ray.remote(no_such_option=1)
        def f() -> None: ...


def test_an_actor_option_on_a_function_is_refused() -> None:
    with pytest.raises((ValueError, TypeError)):

        @ray.remote(max_restarts=1)
        def f() -> None: ...


def test_negative_cpus_are_refused() -> None:
    with pytest.raises(ValueError):

        @ray.remote(num_cpus=-1)
        def f() -> None: ...


def test_negative_num_returns_are_refused() -> None:
    with pytest.raises(ValueError):

        @ray.remote(num_returns=-1)
        def f() -> None: ...


def test_cpu_under_resources_is_refused() -> None:
    with pytest.raises(ValueError, match="CPU"):

        @ray.remote(resources={"CPU": 1})
        def f() -> None: ...


def test_remote_with_positional_options_is_refused() -> None:
    with pytest.raises((TypeError, AssertionError)):
        ray.remote(3)


def test_remote_works_as_a_plain_call() -> None:
    def double(x: int) -> int:
        return 2 * x

    assert ray.get(ray.remote(double).remote(4)) == 8
    assert ray.get(ray.remote(num_cpus=1)(double).remote(4)) == 8


def test_lambdas_and_closures_travel() -> None:
    offset = 10
    assert ray.get(ray.remote(lambda x: x + offset).remote(1)) == 11


def test_a_closure_is_captured_at_the_first_call() -> None:
    box = {"v": 1}

    @ray.remote
    def read() -> int:
        return box["v"]

    assert ray.get(read.remote()) == 1
    box["v"] = 2
    assert ray.get(read.remote()) == 1


def test_a_ref_in_a_closure_is_alive() -> None:
    ref = ray.put("kept")

    @ray.remote
    def read() -> object:
        return ray.get(ref)

    assert ray.get(read.remote()) == "kept"


def test_a_redefined_function_runs_its_new_code() -> None:
    @ray.remote
    def f() -> int:
        return 1

    assert ray.get(f.remote()) == 1

    @ray.remote  # type: ignore[no-redef]
    def f() -> int:
        return 2

    assert ray.get(f.remote()) == 2


def test_nested_tasks_run_with_fewer_cpus_than_depth() -> None:
    @ray.remote
    def down(n: int) -> int:
        return 0 if n == 0 else 1 + ray.get(down.remote(n - 1))

    assert ray.get(down.remote(6)) == 6


def test_a_fan_out_inside_a_task_runs() -> None:
    @ray.remote
    def leaf(x: int) -> int:
        return x

    @ray.remote
    def root() -> int:
        return sum(ray.get([leaf.remote(i) for i in range(20)]))

    assert ray.get(root.remote()) == 190


def test_a_function_can_be_passed_as_an_argument() -> None:
    @ray.remote
    def apply(f: Any, x: int) -> int:
        return f(x)

    assert ray.get(apply.remote(lambda x: x * 3, 2)) == 6


def test_a_remote_function_can_be_passed_as_an_argument() -> None:
    @ray.remote
    def leaf() -> str:
        return "leaf"

    @ray.remote
    def call(f: Any) -> str:
        return ray.get(f.remote())

    assert ray.get(call.remote(leaf)) == "leaf"


def test_static_methods_and_bound_functions_become_tasks() -> None:
    class Tools:
        @staticmethod
        @ray.remote
        def square(x: int) -> int:
            return x * x

        @staticmethod
        def cube(x: int) -> int:
            return x**3

    assert ray.get(Tools.square.remote(3)) == 9
    assert ray.get(ray.remote(Tools.cube).remote(2)) == 8


def test_a_decorated_function_keeps_its_decorator() -> None:
    def twice(f: Any) -> Any:
        @functools.wraps(f)
        def inner(*args: Any, **kwargs: Any) -> Any:
            return 2 * f(*args, **kwargs)

        return inner

    @ray.remote
    @twice
    def f(x: int) -> int:
        return x

    assert ray.get(f.remote(4)) == 8


def test_tasks_leave_in_any_order_and_results_keep_theirs() -> None:
    @ray.remote
    def f(i: int) -> int:
        time.sleep(0.02 * (i % 3))
        return i

    assert ray.get([f.remote(i) for i in range(9)]) == list(range(9))


def test_a_task_waits_for_its_refs_before_it_starts() -> None:
    @ray.remote
    def slow() -> float:
        time.sleep(0.2)
        return time.time()

    @ray.remote
    def after(finished: float) -> bool:
        return time.time() >= finished

    assert ray.get(after.remote(slow.remote()))


def test_arguments_are_snapshots_of_the_call() -> None:
    @ray.remote
    def length(xs: list[int]) -> int:
        return len(xs)

    xs = [1, 2]
    ref = length.remote(xs)
    xs.append(3)
    assert ray.get(ref) == 2


def test_a_dead_worker_is_retried_max_retries_times(tmp_path: Any) -> None:
    path = str(tmp_path / "attempts")

    @ray.remote(max_retries=2)
    def fragile() -> str:
        with open(path, "a") as file:
            file.write("x")
        if os.path.getsize(path) < 3:
            os._exit(1)
        return "alive"

    assert ray.get(fragile.remote()) == "alive"
    assert os.path.getsize(path) == 3


def test_a_killed_worker_without_retries_is_worker_crashed_error() -> None:
    @ray.remote(max_retries=0)
    def die() -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    with pytest.raises(ray.exceptions.WorkerCrashedError):
        ray.get(die.remote())


def test_an_exception_is_not_retried_by_default(tmp_path: Any) -> None:
    path = str(tmp_path / "attempts")

    @ray.remote(max_retries=5)
    def fail() -> None:
        with open(path, "a") as file:
            file.write("x")
        raise ValueError("once")

    with pytest.raises(ValueError, match="once"):
        ray.get(fail.remote())
    assert os.path.getsize(path) == 1


def test_retry_exceptions_true_retries_any_exception(tmp_path: Any) -> None:
    path = str(tmp_path / "attempts")

    @ray.remote(max_retries=3, retry_exceptions=True)
    def flaky() -> str:
        with open(path, "a") as file:
            file.write("x")
        if os.path.getsize(path) < 3:
            raise ValueError("again")
        return "done"

    assert ray.get(flaky.remote()) == "done"
    assert os.path.getsize(path) == 3


def test_retry_exceptions_list_retries_only_what_it_lists(tmp_path: Any) -> None:
    path = str(tmp_path / "attempts")

    @ray.remote(max_retries=3, retry_exceptions=[KeyError])
    def fail(kind: type[Exception]) -> str:
        with open(path, "a") as file:
            file.write("x")
        if os.path.getsize(path) < 2:
            raise kind("again")
        return "done"

    with pytest.raises(ValueError):
        ray.get(fail.remote(ValueError))
    os.unlink(path)
    assert ray.get(fail.remote(KeyError)) == "done"
    assert os.path.getsize(path) == 2


def test_exhausted_retries_raise_the_last_exception(tmp_path: Any) -> None:
    path = str(tmp_path / "attempts")

    @ray.remote(max_retries=2, retry_exceptions=True)
    def fail() -> None:
        with open(path, "a") as file:
            file.write("x")
        raise ValueError(os.path.getsize(path))

    with pytest.raises(ValueError, match="3"):
        ray.get(fail.remote())


def test_two_functions_of_the_same_name_do_not_mix() -> None:
    def make(n: int) -> Any:
        @ray.remote
        def f() -> int:
            return n

        return f

    functions = [make(i) for i in range(5)]
    assert ray.get([f.remote() for f in functions]) == list(range(5))


def test_a_remote_function_in_a_class_body_is_reached_through_the_instance() -> None:
    @ray.remote
    def helper(x: int) -> int:
        return x + 1

    class Runner:
        def run(self, x: int) -> int:
            return ray.get(helper.remote(x))

    assert Runner().run(1) == 2


def test_main_thread_state_of_a_worker_survives_between_tasks() -> None:
    @ray.remote(num_cpus=4)
    def pid() -> int:
        return os.getpid()

    assert ray.get(pid.remote()) == ray.get(pid.remote())


def test_more_tasks_than_cpus_all_finish() -> None:
    @ray.remote(num_cpus=2)
    def f(i: int) -> int:
        return i

    assert sum(ray.get([f.remote(i) for i in range(40)])) == 780


def test_num_returns_one_with_a_tuple_keeps_the_tuple() -> None:
    @ray.remote(num_returns=1)
    def f() -> tuple[int, int]:
        return 1, 2

    assert ray.get(f.remote()) == (1, 2)


def test_empty_parentheses_are_refused() -> None:
    with pytest.raises((TypeError, AssertionError)):
        ray.remote()
