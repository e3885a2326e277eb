"""Does the view follow an engine, and let go of it?"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest

pytest.importorskip("anywidget", reason="the lab extra is not installed")

from minray.base.events import EventPage
from minray_widgets import TimelineView, show
from minray_widgets.frame import decode_frame
from tests.unit.widgets.fake_engine import FakeEngine, script


class Sent:
    """Stands for the browser: keeps frames, gives credits when told."""

    def __init__(self, view: TimelineView) -> None:
        self.frames: list[dict] = []
        view.send = self.receive  # type: ignore[method-assign]
        self.view = view

    def receive(self, content, buffers) -> None:
        assert content == {"kind": "frame"}
        self.frames.append(decode_frame(buffers[0])[0])

    def credit(self, count: int) -> None:
        self.view._heard(None, {"kind": "credit", "count": count}, [])


@pytest.fixture
def past() -> FakeEngine:
    """An engine whose whole run lies between the making of a view and now."""
    return FakeEngine(script(tasks=20, begin_s=time.perf_counter() + 1, mean_s=0.01), clock=lambda: 1e12)


@pytest.fixture
def watched(past: FakeEngine) -> Iterator[TimelineView]:
    view = TimelineView(engine=lambda: past)
    yield view
    view.close()


def threads() -> list[str]:
    return [t.name for t in threading.enumerate() if t.name == "minray-timeline"]


def test_the_view_tells_every_attempt(watched: TimelineView) -> None:
    spans = watched.spans()
    assert len({span.task_id for span in spans}) == 20
    assert {span.state for span in spans} == {"finished", "failed", "retried"}
    assert len(watched.events) == len(script(tasks=20))
    assert watched.critical_path()[-1].ended_s == max(span.ended_s for span in spans)


def test_leaving_the_block_ends_the_window_and_the_thread(past: FakeEngine) -> None:
    with TimelineView(engine=lambda: past) as view:
        pass
    seen = len(view.events)
    polls = past.polls
    view.refresh()
    assert seen and past.polls == polls and threads() == []


def test_a_block_run_again_shows_the_new_run_only() -> None:
    engines = [FakeEngine(script(tasks=5, begin_s=time.perf_counter() + 1), clock=lambda: 1e12)]
    view = TimelineView(engine=lambda: engines[0])
    with view:
        pass
    engines[0] = FakeEngine(script(tasks=3, begin_s=time.perf_counter() + 1), clock=lambda: 1e12)
    with view:
        assert threads() == ["minray-timeline"]
    assert len(view.spans()) == 3 and threads() == []
    view.close()
    with pytest.raises(RuntimeError, match="was closed"), view:
        pass


def test_closing_ends_the_thread(watched: TimelineView) -> None:
    assert threads() == ["minray-timeline"]
    watched.close()
    assert threads() == []


def test_a_new_runtime_is_followed_and_the_old_tasks_stay() -> None:
    now = time.perf_counter() + 1
    first = FakeEngine(script(tasks=5, begin_s=now, mean_s=0.01), clock=lambda: 1e12)
    second = FakeEngine(script(tasks=7, begin_s=now + 5, mean_s=0.01), clock=lambda: 1e12)
    engines = [first]
    with TimelineView(engine=lambda: engines[0] if engines else None) as view:
        assert len({s.task_id for s in view.spans()}) == 5
        engines.clear()
        view.refresh()
        engines.append(second)
        # The ids begin anew with each runtime; the spans are told apart all the same.
        assert len([s for s in view.spans() if s.state != "retried"]) == 12


def test_an_engine_that_is_being_shut_down_does_not_end_the_view() -> None:
    class Closing:
        def events(self, cursor: int) -> EventPage:
            raise RuntimeError("shut down")

        def events_ahead(self, cursor: int) -> tuple[int, int]:
            return 0, 0

    with TimelineView(engine=lambda: Closing()) as view:
        assert view.spans() == []


def test_an_interrupted_cell_ends_the_thread_and_the_next_cell_starts_it(watched: TimelineView) -> None:
    class Interrupted:
        error_in_exec = KeyboardInterrupt()

    watched._cell_ended(Interrupted())
    assert threads() == []
    watched._cell_began()
    assert threads() == ["minray-timeline"]


def test_a_view_that_nobody_looks_at_does_not_sample(watched: TimelineView) -> None:
    watched._end_thread()
    watched._heard(None, {"kind": "hidden"}, [])
    before = watched._seq
    watched._cell_began()
    watched._cell_ended()
    assert threads() == [] and watched._seq == before
    watched._heard(None, {"kind": "shown"}, [])
    assert threads() == ["minray-timeline"]


def test_without_credits_frames_wait() -> None:
    clock = [0.0]
    events = script(tasks=60, begin_s=time.perf_counter() + 1, mean_s=0.01)
    engine = FakeEngine(events, clock=lambda: clock[0])
    view = TimelineView(engine=lambda: engine)
    view._end_thread()
    view._credits = 4
    browser = Sent(view)
    for event in events[4:44]:
        clock[0] = event.time_s
        view._sample()
        view._publish()
    assert 4 <= len(browser.frames) <= 6  # four credits, and a heartbeat on a slow machine
    subshell = threading.Thread(target=browser.credit, args=(1,))
    subshell.start()
    subshell.join()
    clock[0] = events[-1].time_s
    view._sample()
    view._publish()
    assert browser.frames[-1]["counts"]["queued"] == 0
    view.close()


def test_credits_on_the_main_thread_mean_receive_only_and_on_another_one_subshell(
    watched: TimelineView,
) -> None:
    browser = Sent(watched)
    browser.credit(1)
    watched.refresh()
    assert browser.frames[-1]["mode"] == "receive-only"
    beside = threading.Thread(target=browser.credit, args=(1,))
    beside.start()
    beside.join()
    watched.refresh()
    assert browser.frames[-1]["mode"] == "subshell"


def test_a_page_that_says_hello_gets_the_whole_picture_at_once(watched: TimelineView) -> None:
    watched.refresh()
    browser = Sent(watched)
    watched._heard(None, {"kind": "hello"}, [])
    assert len(browser.frames) >= 1 and browser.frames[0]["counts"]["finished"] > 0


def test_a_cell_in_which_no_task_ran_leaves_the_stored_picture_alone(watched: TimelineView) -> None:
    watched.refresh()
    before = watched._picture_version()
    watched._cell_began()
    watched._cell_ended()
    assert watched._picture_version() == before


def test_its_representation_never_changes(watched: TimelineView) -> None:
    assert repr(watched) == "<TimelineView>"


def test_a_displayed_view_carries_a_picture_beside_the_widget(watched: TimelineView) -> None:
    watched.refresh()
    bundle = watched._repr_mimebundle_()
    assert set(bundle) == {"text/plain", "text/html", "application/vnd.jupyter.widget-view+json"}
    assert bundle["text/html"].startswith('<img alt="Timeline of tasks: ')


def test_a_snapshot_is_an_svg(watched: TimelineView) -> None:
    assert watched.snapshot(width=600).startswith(
        '<svg xmlns="http://www.w3.org/2000/svg" class="minray-tl" width="600"'
    )


def test_show_outside_a_notebook_gives_a_view(past: FakeEngine) -> None:
    view = show(engine=lambda: past, filter="score")
    assert {span.name for span in view.spans()} == {"score"}
    view.close()
