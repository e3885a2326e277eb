"""What is kept of a recorded run, and what can be asked of it?

    with minray.record() as run: ...       run.events   run.complete   run.save("a.run.gz")
    run = minray.load_run("a.run.gz")      the same events, equal record by record

A run needs no cluster: it stays readable after `shutdown()`, on another machine, and by a grader. Where
records are missing it says so (`complete`, `lost`, `gaps`).
"""

from __future__ import annotations

import html
import json
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import overload

from minray.base.events import Event, EventsLost, TaskFinished, TaskSubmitted
from minray.recording.run_file import RunHeader, read_run, write_run
from minray.recording.timeline import chrome_trace


class Run(Sequence[Event]):
    """The events of a while, in order of time: a trace that graders and views can read. Made by
    `minray.record()` or `minray.load_run()`."""

    def __init__(self, events: tuple[Event, ...] = (), header: RunHeader | None = None) -> None:
        self._events = events
        self._header = header if header is not None else RunHeader()

    @property
    def events(self) -> tuple[Event, ...]:
        """Typed records (`minray.base.events`), in order of time."""
        return self._events

    @property
    def lost(self) -> int:
        """How many records are known to be missing, at least."""
        told = sum(event.count for event in self.events if isinstance(event, EventsLost))
        return self._header.lost + told

    @property
    def gaps(self) -> tuple[str, ...]:
        """What is missing, a sentence each."""
        told = (
            f"process {event.worker_id[:8]}: {event.why}"
            + (f" ({event.count} records)" if event.count else "")
            for event in self.events
            if isinstance(event, EventsLost)
        )
        return (*self._header.gaps, *told)

    @property
    def complete(self) -> bool:
        """Whether every record of every task that ended in this run is here."""
        return not self.gaps and not self.lost

    @property
    def duration_s(self) -> float:
        """From the start of the recording to its end."""
        return max(0.0, self._header.stopped_s - self._header.started_s)

    def counts(self) -> dict[str, int]:
        """How many records of each kind."""
        return dict(sorted(Counter(type(event).__name__ for event in self.events).items()))

    def save(self, path: str | os.PathLike[str]) -> str:
        """Write the run to a file that says itself what it holds: gzipped JSON lines, no pickles.
        Returns the path. Raises: OSError."""
        write_run(path, self.events, self._header)
        return os.fspath(path)

    def timeline(self, path: str | os.PathLike[str] | None = None) -> list[dict[str, object]] | None:
        """Trace events for Perfetto (https://ui.perfetto.dev), or a JSON file of them at `path`."""
        trace = chrome_trace(self.events)
        if path is None:
            return trace
        with open(path, "w", encoding="utf-8") as file:
            json.dump(trace, file)
        return None

    # ---------------------------------------------------------------- looking at it
    def __len__(self) -> int:
        return len(self.events)

    @overload
    def __getitem__(self, index: int) -> Event: ...

    @overload
    def __getitem__(self, index: slice) -> tuple[Event, ...]: ...

    def __getitem__(self, index: int | slice) -> Event | tuple[Event, ...]:
        return self.events[index]

    def __iter__(self) -> Iterator[Event]:
        return iter(self.events)

    def _state(self) -> str:
        return "complete" if self.complete else f"INCOMPLETE: {'; '.join(self.gaps) or f'{self.lost} lost'}"

    def _told(self) -> dict[str, int]:
        events = self.events
        submitted = {event.task_id for event in events if isinstance(event, TaskSubmitted)}
        finished = [event for event in events if isinstance(event, TaskFinished)]
        return {
            "tasks": len(submitted),
            "finished": sum(event.outcome == "ok" for event in finished),
            "failed": sum(event.outcome != "ok" for event in finished),
            "workers": len({event.worker_id for event in finished if event.worker_id}),
            "events": len(events),
        }

    def __repr__(self) -> str:
        told = ", ".join(
            f"{count} {what}" for what, count in self._told().items() if count or what == "tasks"
        )
        return f"<Run of {self.duration_s:.3f} s: {told}; {self._state()}>"

    def _repr_html_(self) -> str:
        cells = "".join(
            f'<td style="padding:2px 12px 2px 0"><b>{count:,}</b> {what}</td>'
            for what, count in self._told().items()
        )
        colour = "#009e73" if self.complete else "#d55e00"
        kinds = ", ".join(f"{name} {count:,}" for name, count in self.counts().items())
        return (
            f'<div style="font:13px system-ui;padding:6px 10px;border-left:4px solid {colour}">'
            f"<b>run</b> of {self.duration_s:.3f} s, {html.escape(self._state())}"
            f'<table style="margin:2px 0"><tr>{cells}</tr></table>'
            f'<span style="opacity:.7">{html.escape(kinds)}</span></div>'
        )


def load_run(path: str | os.PathLike[str]) -> Run:
    """Read a run that `Run.save` wrote, yours or somebody else's: nothing in it is executed.

    Raises: RunFileError when it is no run, is damaged or of a newer minray; OSError.
    """
    events, header = read_run(path)
    return Run(events, header)
