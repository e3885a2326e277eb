"""Frames of items, windows, replays: a producer and its owner's record of it, without processes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from minray.base.errors import StreamingGeneratorReplayInconsistentError
from minray.serialization.values import FAILED, PENDING, PICKLED, PLAIN, STORED
from minray.worker import generating, wire
from minray.worker.generating import Generating, Producing
from minray.worker.generators import STOP, DynamicObjectRefGenerator, Generators, ObjectRefGenerator, Stream
from minray.worker.object_ref import make_ref
from minray.worker.replies import GENERATED, MULTI
from minray.worker.task_context import TaskContext, running
from minray.worker.wire import CREDIT, ITEMS, Call, Yields

ANY_NUMBER = Yields(False, 0)


class FakePeer:
    """The other end: keeps what is sent to it."""

    def __init__(self) -> None:
        self.gone = False
        self.worker_id = b"o" * 16
        self.names: dict[Any, str] = {7: "count"}
        self.frames: list[Any] = []
        self.channel = SimpleNamespace(send=self.frames.append)


class FakeExecutor:
    """Seals what is not plain by `repr`; a wait for the consumer asks `while_waiting` to do something."""

    def __init__(self) -> None:
        self.timers: list[Callable[[], None]] = []
        self.warnings: list[str] = []
        self.lent = 0
        self.while_waiting: Callable[[Any], None] = lambda one: None
        self.output = SimpleNamespace(ship=lambda peer, task: None)
        self.core = SimpleNamespace(
            loop=SimpleNamespace(call_later=lambda delay_s, call: self.timers.append(call)),
            _step=lambda one, deadline: self.while_waiting(one),
            warn=lambda key, text: self.warnings.append(text),
        )

    def seal_result(self, peer: Any, value: Any) -> tuple[int, Any]:
        if isinstance(value, BaseException):
            raise value
        return (PLAIN, value) if isinstance(value, int) else (PICKLED, repr(value).encode())

    def failure(self, context: Any, error: BaseException) -> tuple[int, Any]:
        return FAILED, repr(error)

    def block(self) -> bool:
        self.lent += 1
        return True

    def unblock(self) -> None:
        self.lent -= 1


@pytest.fixture
def peer() -> Iterator[Any]:
    """The caller, with a task of its number 1 running here."""
    fake: Any = FakePeer()
    running.task = TaskContext(fake, 1, 7, None)
    yield fake
    running.task = None


@pytest.fixture
def executor() -> Any:
    return FakeExecutor()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """A clock that stands still unless it is moved: clock[0] += 1."""
    now = [100.0]
    monkeypatch.setattr(generating, "_perf", lambda: now[0])
    return now


class Large(int):
    """Not plain, so it is sealed."""


def count(n: int) -> Iterator[int]:
    yield from range(n)


def run(executor: Any, peer: Any, items: Any, rules: Yields = ANY_NUMBER) -> Any:
    return Generating(executor).run(peer, items, rules)


# ---------------------------------------------------------------- when items leave
def test_the_first_item_leaves_at_once_and_the_last_ones_with_the_answer(
    executor: Any, peer: Any, clock: list[float]
) -> None:
    assert run(executor, peer, count(4)) == (GENERATED, (1, None, (1, 2, 3)))
    assert peer.frames == [(ITEMS, 1, 0, None, (0,), 0)]


def test_slow_items_leave_one_by_one(executor: Any, peer: Any, clock: list[float]) -> None:
    def slowly() -> Iterator[int]:
        for item in range(3):
            clock[0] += 1
            yield item

    assert run(executor, peer, slowly()) == (GENERATED, (3, None, ()))
    assert [frame[2:5] for frame in peer.frames] == [(0, None, (0,)), (1, None, (1,)), (2, None, (2,))]


def test_fast_items_share_frames_of_a_bounded_number(executor: Any, peer: Any, clock: list[float]) -> None:
    run(executor, peer, count(1000))
    assert [len(frame[4]) for frame in peer.frames] == [1, 256, 256, 256]


def test_fast_items_share_frames_of_a_bounded_size(executor: Any, peer: Any, clock: list[float]) -> None:
    run(executor, peer, ("x" * 30_000 for _ in range(7)))
    assert [len(frame[4]) for frame in peer.frames] == [1, 3, 3]
    assert peer.frames[1][3] == (PICKLED,) * 3


def test_a_timer_sends_what_a_sleeping_generator_holds_back(
    executor: Any, peer: Any, clock: list[float]
) -> None:
    def falls_asleep() -> Iterator[int]:
        yield from range(5)
        assert len(executor.timers) == 1, "one timer, not one an item"
        executor.timers.pop()()
        assert peer.frames[1] == (ITEMS, 1, 1, None, (1, 2, 3, 4), 0)
        yield 5

    assert run(executor, peer, falls_asleep()) == (GENERATED, (5, None, (5,)))


def test_large_last_items_leave_in_a_frame_of_their_own(executor: Any, peer: Any, clock: list[float]) -> None:
    executor.seal_result = lambda peer, value: (STORED, (b"", None, (64 * value, (8,), b"w"), 8, None, 0))
    assert run(executor, peer, (Large(item) for item in range(3))) == (GENERATED, (3, None, ()))
    assert [(frame[2], frame[3]) for frame in peer.frames] == [(0, (STORED,)), (1, (STORED, STORED))]


def test_a_failure_sends_the_items_before_it(executor: Any, peer: Any, clock: list[float]) -> None:
    with pytest.raises(ZeroDivisionError):
        run(executor, peer, (1 // item for item in (1, 1, 0)))
    assert sum(len(frame[4]) for frame in peer.frames) == 2


def test_what_is_no_generator_is_refused(executor: Any, peer: Any) -> None:
    with pytest.raises(ValueError, match="needs a function that yields; it returned list"):
        run(executor, peer, [1, 2])


# ---------------------------------------------------------------- replays
def test_a_replay_leaves_out_what_has_arrived_and_says_where_it_is(
    executor: Any, peer: Any, clock: list[float]
) -> None:
    assert run(executor, peer, count(5), Yields(False, 0, 1, 3, 2)) == (GENERATED, (4, None, (4,)))
    assert peer.frames == [(ITEMS, 1, 3, None, (), 0), (ITEMS, 1, 3, None, (3,), 0)]


def test_a_replay_that_yields_less_is_an_error(executor: Any, peer: Any) -> None:
    with pytest.raises(StreamingGeneratorReplayInconsistentError, match="yielded 2 items; before"):
        run(executor, peer, count(2), Yields(False, 0, 1, 3, 0))


# ---------------------------------------------------------------- windows
def test_a_producer_waits_for_its_consumer(executor: Any, peer: Any, clock: list[float]) -> None:
    hub = Generating(executor)
    waits: list[int] = []

    def consume(one: Producing) -> None:
        waits.append(one.made)
        hub.on_credit(peer, (CREDIT, 1, one.credit + 1))

    executor.while_waiting = consume
    assert hub.run(peer, count(5), Yields(False, 2)) == (GENERATED, (5, None, ()))
    assert waits == [2, 3, 4, 5], "the window is full after 2, then after each that is taken"
    assert all(frame[5] == 2 for frame in peer.frames) and not hub.running


def test_a_producer_that_waits_long_lends_its_cpu(executor: Any, peer: Any, clock: list[float]) -> None:
    hub = Generating(executor)
    lent: list[int] = []

    def slow_consumer(one: Producing) -> None:
        lent.append(executor.lent)
        clock[0] += 1
        if len(lent) == 3:
            hub.on_credit(peer, (CREDIT, 1, 1))

    executor.while_waiting = slow_consumer
    hub.run(peer, count(1), Yields(False, 1))
    assert lent == [0, 1, 1] and executor.lent == 0


def test_nobody_waits_for_a_consumer_that_has_left(executor: Any, peer: Any, clock: list[float]) -> None:
    hub = Generating(executor)
    executor.while_waiting = lambda one: hub.on_credit(peer, (CREDIT, 1, STOP))
    made: list[int] = []
    hub.run(peer, (made.append(item) or item for item in range(5)), Yields(False, 1))
    assert made == [0, 1, 2, 3, 4], "as in Ray, it runs on"
    assert sum(len(frame[4]) for frame in peer.frames) == 1, "but sends no more"


def test_a_generator_whose_caller_died_is_closed(executor: Any, peer: Any, clock: list[float]) -> None:
    hub = Generating(executor)
    closed = []

    def endless() -> Iterator[int]:
        try:
            while True:
                yield 1
        finally:
            closed.append(True)

    def die(one: Producing) -> None:
        peer.gone = True
        hub.caller_gone(peer)

    executor.while_waiting = die
    hub.run(peer, endless(), Yields(False, 1))
    assert closed == [True]


def test_a_shared_window_counts_what_all_have_out(executor: Any, peer: Any) -> None:
    hub = Generating(executor)
    hub.share_window(3)
    first, second = (
        Producing(peer, TaskContext(peer, n, 7, None), Yields(False, 0), hub.shared) for n in (1, 2)
    )
    hub.running = {(peer, 1): first, (peer, 2): second}
    hub.shared._running = hub.running  # type: ignore[union-attr]
    first.made, second.made = 2, 0  # and each may have one in any case
    assert first.st == second.st == PLAIN
    second.made = 1
    assert first.st == second.st == PENDING
    hub.on_credit(peer, (CREDIT, 1, 1))
    assert first.st == second.st == PLAIN


# ---------------------------------------------------------------- fixed numbers of values
def test_the_first_values_of_a_generator_fill_the_places(executor: Any, peer: Any) -> None:
    assert generating.first_values(executor, peer, count(3), 3) == (
        MULTI,
        [(PLAIN, 0), (PLAIN, 1), (PLAIN, 2)],
    )
    assert generating.first_values(executor, peer, count(1), 1) == (PLAIN, 0)
    assert not executor.warnings
    assert generating.first_values(executor, peer, count(9), 2) == (MULTI, [(PLAIN, 0), (PLAIN, 1)])
    assert "more than num_returns=2" in executor.warnings[0]


def test_places_that_are_not_filled_hold_the_reason(executor: Any, peer: Any) -> None:
    state, parts = generating.first_values(executor, peer, count(1), 3)
    assert state == MULTI and parts[0] == (PLAIN, 0)
    assert [one for one, _ in parts[1:]] == [FAILED, FAILED] and "1 objects, but num_returns=3" in parts[1][1]
    with pytest.raises(ValueError, match="0 objects, but num_returns=1"):
        generating.first_values(executor, peer, count(0), 1)


# ---------------------------------------------------------------- the owner's side
class Owner(Generators):
    """The owner's part alone."""

    def __init__(self) -> None:
        super().__init__()
        self.worker_id = b"o" * 16
        self.loop: Any = SimpleNamespace(pend=lambda: None)

    def accept_form(self, peer: Any, state: int, form: Any, owner_ref: Any) -> Any:
        return form

    def complete(self, number: int, state: int, value: Any) -> None:
        ref = self.table.pop(number)
        ref.st, ref.v = state, value
        for wake in ref.w or ():
            wake()

    def open(self, rules: Yields = ANY_NUMBER) -> tuple[Any, Stream]:
        ref = make_ref(self.worker_id, next(self.numbers))
        ref.task = (ref.n, 7, Call(b"", None, None, (), rules))
        self.table[ref.n] = ref
        gen = self.open_stream(ref, rules)
        return gen, self.streams[ref.n]


def test_items_are_taken_in_order_and_then_comes_the_end(peer: Any) -> None:
    owner = Owner()
    gen, stream = owner.open()
    assert stream.st == PENDING and owner.take_item(stream) is None
    owner.on_items(peer, (ITEMS, stream.n, 0, None, ("a", "b"), 0))
    owner.on_items(peer, (ITEMS, stream.n, 2, (PICKLED, PLAIN), (b"c", "d"), 0))
    assert stream.st and not gen.is_finished() and gen.next_ready()
    found = [next(gen) for _ in range(4)]
    assert [(ref.st, ref.v) for ref in found] == [(PLAIN, "a"), (PLAIN, "b"), (PICKLED, b"c"), (PLAIN, "d")]
    owner.generated(peer, stream.ref, GENERATED, (4, None, ("e",)))
    assert not gen.is_finished() and next(gen).v == "e" and gen.is_finished()
    with pytest.raises(StopIteration):
        next(gen)
    assert stream.ref.st == PLAIN and stream.ref.v is None and not owner.streams and not peer.frames


def test_an_exception_of_the_generator_is_its_last_item(peer: Any) -> None:
    owner = Owner()
    gen, stream = owner.open()
    owner.generated(peer, stream.ref, FAILED, b"error")
    last = next(gen)
    assert (last.st, last.v) == (FAILED, b"error") and last is not stream.ref
    assert stream.ref.st == PLAIN and gen.is_finished()


def test_a_lost_task_is_its_own_last_reference(peer: Any) -> None:
    owner = Owner()
    gen, stream = owner.open()
    owner.on_items(peer, (ITEMS, stream.n, 0, None, (1,), 0))
    owner.complete(stream.n, FAILED, b"lost")
    assert next(gen).v == 1 and not gen.is_finished()
    assert next(gen) is gen.completed() and gen.is_finished()


def test_credit_is_sent_when_the_producer_may_stand_and_not_before(peer: Any) -> None:
    owner = Owner()
    gen, stream = owner.open(Yields(False, 3))
    owner.on_items(peer, (ITEMS, stream.n, 0, None, (0, 1), 3))
    next(gen)
    assert not peer.frames, "it has one to go"
    owner.on_items(peer, (ITEMS, stream.n, 2, None, (2,), 3))
    assert peer.frames == [(CREDIT, stream.n, 1)], "now it would stand, and one is taken"
    next(gen)
    assert peer.frames == [(CREDIT, stream.n, 1)], "it knows of one free place still"
    owner.on_items(peer, (ITEMS, stream.n, 3, None, (3,), 3))
    assert peer.frames[1:] == [(CREDIT, stream.n, 2)]


def test_a_replay_knows_what_arrived_and_credit_waits_for_the_new_worker(peer: Any) -> None:
    owner, other = Owner(), FakePeer()
    gen, stream = owner.open(Yields(False, 2))
    owner.on_items(peer, (ITEMS, stream.n, 0, None, (0, 1), 2))
    again = owner.replayed(stream.ref.task)
    assert again is stream.ref.task and again[2].returns == Yields(False, 2, 1, 2, 0)
    next(gen)
    assert not peer.frames
    owner.on_items(other, (ITEMS, stream.n, 2, None, (), 2))  # type: ignore[arg-type]
    assert other.frames == [(CREDIT, stream.n, 1)]
    assert owner.replayed((99, 7, ())) == (99, 7, ()), "other tasks stay as they are"


def test_items_of_a_dropped_generator_are_let_go_and_its_worker_is_told(peer: Any) -> None:
    owner = Owner()
    gen, stream = owner.open()
    owner.on_items(peer, (ITEMS, stream.n, 0, None, (0, 1), 0))
    del gen
    owner.stop_abandoned()
    assert not stream.queue and peer.frames == [(CREDIT, stream.n, STOP)]
    owner.on_items(peer, (ITEMS, stream.n, 2, (PLAIN, PICKLED), (2, b"3"), 0))
    assert not stream.queue and stream.received == 4
    owner.on_items(peer, (ITEMS, 1234, 5, None, (1,), 0))
    assert peer.frames[-1] == (CREDIT, 1234, STOP), "nor does anybody want those of a task given up"


def test_a_generator_is_refused_by_pickle_and_a_collection_is_not() -> None:
    gen, stream = Owner().open()
    with pytest.raises(TypeError, match="f.remote"):
        gen.__reduce__()
    assert isinstance(gen, ObjectRefGenerator) and gen._generator_ref is stream.ref
    found = DynamicObjectRefGenerator([stream.ref])
    made, (refs,) = found.__reduce__()
    assert made is DynamicObjectRefGenerator and refs.refs == [stream.ref]
    assert DynamicObjectRefGenerator([]).__reduce__()[1] == ([],)


def test_the_numbers_of_frames_are_ours_alone() -> None:
    names = [name for name, value in vars(wire).items() if name.isupper() and type(value) is int]
    assert len({getattr(wire, name) for name in names}) == len(names)
