"""The loop wakes for descriptors and deadlines, and for nothing else."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from minray.raylet.event_loop import READ, WRITE, EventLoop, monotonic_s


@pytest.fixture
def loop() -> Iterator[EventLoop]:
    loop = EventLoop()
    yield loop
    loop.close()


def test_readable_descriptors_are_served_until_stopped(loop: EventLoop) -> None:
    read, write = os.pipe()
    heard: list[bytes] = []

    def on_ready(_events: int) -> None:
        heard.append(os.read(read, 1))
        if heard[-1] == b"c":
            loop.stop()

    loop.watch(read, on_ready)
    os.write(write, b"abc")
    batches: list[float] = []
    loop.run(lambda now_s: batches.append(now_s))
    assert heard == [b"a", b"b", b"c"]
    assert len(batches) == 4  # once before, then after each batch: nothing else woke it
    loop.unwatch(read)
    loop.unwatch(read)
    os.close(read)
    os.close(write)


def test_timers_run_in_order_and_cancelled_ones_do_not(loop: EventLoop) -> None:
    ran: list[str] = []
    loop.call_later(0.002, loop.stop)
    loop.call_later(0.001, lambda: ran.append("late"))
    loop.call_later(0.0, lambda: ran.append("early"))
    loop.call_later(0.0, lambda: ran.append("never")).cancel()
    loop.run(lambda now_s: None)
    assert ran == ["early", "late"]


def test_the_deadline_of_a_batch_wakes_the_loop(loop: EventLoop) -> None:
    began_s = monotonic_s()
    calls: list[float] = []

    def after_batch(now_s: float) -> float:
        calls.append(now_s)
        if now_s >= began_s + 0.005:
            loop.stop()
        return began_s + 0.005

    loop.run(after_batch)
    assert len(calls) == 2


def test_a_failing_callback_does_not_end_the_loop(
    loop: EventLoop, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail() -> None:
        raise ValueError("odd message")

    loop.call_later(0.0, fail)
    loop.call_later(0.001, loop.stop)
    loop.run(lambda now_s: None)
    assert "odd message" in capsys.readouterr().err


def test_a_descriptor_can_wait_for_writing(loop: EventLoop) -> None:
    read, write = os.pipe()
    seen: list[int] = []

    def on_ready(events: int) -> None:
        seen.append(events)
        loop.stop()

    loop.watch(write, on_ready, READ)
    loop.change(write, WRITE)
    loop.run(lambda now_s: None)
    assert seen == [WRITE]
    loop.unwatch(write)
    loop.change(write, READ)  # forgotten: nothing happens
    os.close(read)
    os.close(write)
