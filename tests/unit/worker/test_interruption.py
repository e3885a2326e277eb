"""Where on a stack an interrupt may be raised, and which execution it may hit."""

from __future__ import annotations

import functools
import sys
import threading
from collections import deque
from collections.abc import Callable
from types import FrameType, SimpleNamespace
from typing import Any, cast

import pytest

from minray.worker import interruption
from minray.worker.interruption import Interruption, NotStarted, door
from minray.worker.task_context import TaskContext


def _function_of(module: str) -> Callable[[Callable[[], Any]], Any]:
    """A function `(next)` as if it were written in `module` (of its own name: equal code is the same code)."""
    names: dict[str, Any] = {"__name__": module}
    exec(f"def {module.replace('.', '_')}(next):\n    return next()", names)
    return cast("Callable[[Callable[[], Any]], Any]", names[module.replace(".", "_")])


def _on_stack(check: Callable[[FrameType], bool], *modules: str) -> bool:
    """`check` of the top frame of a stack of functions of these modules, outermost first; "door" is a door."""
    step: Callable[[], Any] = lambda: check(sys._getframe(1))  # noqa: E731
    for module in reversed(modules):
        call = _function_of("minray.worker.executor" if module == "door" else module)
        if module == "door":
            door(call)
        step = functools.partial(call, step)  # a frame of its own only for `call`
    return cast(bool, step())


USER, RUNTIME = "program", "minray.worker.waiting"


@pytest.fixture(autouse=True)
def _own_doors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(interruption, "doors", set())


@pytest.mark.parametrize(
    ("modules", "allowed"),
    [
        (("door", USER), True),
        (("door", USER, "json.decoder"), True),
        (("door", USER, RUNTIME), False),  # inside get: it ends and raises itself
        (("door", USER, "minray.api.objects"), False),  # perhaps an import of ours
        (("door", USER, "minray.util.actor_pool", USER), True),
        (("door", USER, RUNTIME, USER), False),  # a __reduce__ of the user's while the runtime pickles
        (("door", RUNTIME), False),
        ((RUNTIME, USER), False),  # no task: the program's own thread
        ((USER,), False),
        (("door", RUNTIME, "door", USER), True),
    ],
)
def test_only_user_code_on_top_is_interrupted(modules: tuple[str, ...], allowed: bool) -> None:
    assert _on_stack(interruption._in_user_code, *modules) is allowed


def test_a_door_itself_is_not_interrupted() -> None:
    assert not _on_stack(interruption._in_user_code, USER, "door")


@pytest.mark.parametrize(
    ("modules", "whole"),
    [
        (("door", USER, RUNTIME), True),
        (("door", USER, "minray.api.objects", RUNTIME), True),
        (("door", USER, RUNTIME, USER, RUNTIME), False),  # `put` in a __reduce__: the outer one is not whole
        ((RUNTIME,), False),
    ],
)
def test_the_end_of_a_public_function_raises_where_what_called_it_is_whole(
    modules: tuple[str, ...], whole: bool
) -> None:
    assert _on_stack(interruption._will_be_whole, *modules) is whole


def _worker(actor: Any = None) -> Any:
    core = SimpleNamespace(
        untold=set(), loop=SimpleNamespace(call_later=lambda *_: None), cancel_children=lambda *_: None
    )
    executor = SimpleNamespace(core=core, actor=actor, context=None, refused={}, main_ident=0)
    executor.interruption = Interruption(executor)  # type: ignore[arg-type]
    return executor


class _Channel:
    def __init__(self) -> None:
        self.sent: list[Any] = []

    def send(self, message: Any) -> None:
        self.sent.append(message)


class _Peer:
    def __init__(self, *numbers: int) -> None:
        self.queue = deque((number, 1, ()) for number in numbers)
        self.channel = _Channel()


def _cast_peer(*numbers: int) -> Any:
    return _Peer(*numbers)


def test_a_task_in_the_queue_goes_back_and_its_neighbours_stay() -> None:
    executor, peer = _worker(), _cast_peer(1, 2, 3)
    executor.interruption.on_cancel(peer, 2, False, True)
    assert [task[0] for task in peer.queue] == [1, 3]
    assert peer.channel.sent == [(5, [2], False)]


def test_a_task_between_the_queue_and_its_first_line_is_refused_there() -> None:
    executor, peer = _worker(), _cast_peer(2)
    executor.interruption.on_cancel(peer, 1, False, True)
    with pytest.raises(NotStarted):
        executor.interruption.refuse(TaskContext(peer, 1, 1, None))
    assert not executor.refused


def test_an_order_for_a_finished_task_stops_nobody_and_is_forgotten() -> None:
    executor, peer = _worker(), _cast_peer(2)
    executor.interruption.on_cancel(peer, 1, False, True)
    executor.interruption.refuse(TaskContext(peer, 2, 1, None))
    assert not executor.refused


def test_the_same_number_of_another_owner_is_another_task() -> None:
    executor, mine, others = _worker(), _cast_peer(), _cast_peer()
    executor.context = TaskContext(others, 1, 1, None)
    executor.interruption.on_cancel(mine, 1, False, True)
    assert executor.interruption.target is None
    executor.interruption.refuse(executor.context)


def test_a_running_task_becomes_the_target_and_knows() -> None:
    executor, peer = _worker(), _cast_peer()
    executor.main_ident = threading.get_ident()  # the main thread reads: no signal
    executor.context = context = TaskContext(peer, 1, 1, None)
    interruption.interrupts.pending = False
    try:
        executor.interruption.on_cancel(peer, 1, False, True)
        assert executor.interruption.target is context and interruption.interrupts.pending
        assert executor.interruption.is_cancelled(context)
        assert not executor.interruption.is_cancelled(TaskContext(peer, 1, 1, None))  # another execution
        executor.context = None  # it has ended
        executor.interruption._strike()
        assert executor.interruption.target is None
    finally:
        interruption.interrupts.pending = False
