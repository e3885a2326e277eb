"""Which colour, and which pattern, says which state?

Colours are Okabe and Ito's set, told apart under every common colour blindness; each state also has a
pattern, so that a greyscale print still reads. `static/timeline.js` and `static/objects.js` carry the
same tables (a test compares them); the order is the wire code of a state.

Source: M. Okabe, K. Ito, "Color Universal Design" (2008).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum


class State(IntEnum):
    """What became of one attempt at a task. The value travels in the frame."""

    QUEUED = 0  # submitted; no worker has it yet
    WAITING = 1  # sent to a worker, behind another task there
    RUNNING = 2
    FINISHED = 3
    FAILED = 4  # raised an exception
    RETRIED = 5  # this attempt failed and another one follows
    LOST = 6  # its worker or the runtime went away
    CANCELLED = 7
    PACKED = 8  # many finished tasks drawn as one block


@dataclass(frozen=True, slots=True)
class Look:
    """How a state is drawn. pattern: "solid" | "hollow" | "hatch" | "cross" | "dots" | "bars"."""

    label: str
    colour: str
    pattern: str


LOOKS: dict[State, Look] = {
    State.QUEUED: Look("queued", "#F0E442", "hollow"),
    State.WAITING: Look("waiting at a worker", "#56B4E9", "hollow"),
    State.RUNNING: Look("running", "#E69F00", "solid"),
    State.FINISHED: Look("finished", "#009E73", "solid"),
    State.FAILED: Look("failed", "#D55E00", "cross"),
    State.RETRIED: Look("retried", "#CC79A7", "hatch"),
    State.LOST: Look("lost", "#6E6E6E", "cross"),
    State.CANCELLED: Look("cancelled", "#9A9A9A", "dots"),
    State.PACKED: Look("many tasks", "#009E73", "bars"),
}
CALL_COLOUR = "#0072B2"  # get and wait, on the driver's lane


class ObjectState(IntEnum):
    """How an object is drawn. Worked out from the log for any moment; it does not travel."""

    MEMORY = 0
    READ = 1  # in memory, and another process reads it in place
    DISK = 2  # spilled
    FREED = 3
    LOST = 4  # its owner or the runtime went away
    PACKED = 5  # many objects drawn as one block


class Fate(IntEnum):
    """Why an object is no more. The value travels in the frame."""

    ALIVE = 0
    FREED = 1  # the last reference went
    OWNER_DIED = 2
    RUNTIME_ENDED = 3


class Change(IntEnum):
    """What happened to an object between its birth and its end. The value travels in the frame."""

    BORROWED = 0
    RETURNED = 1
    WANTED = 2  # a task was submitted that takes it
    UNWANTED = 3
    SPILLED = 4  # moved to disk; it stays there
    RESTORED = 5  # read from there, by a process


OBJECT_LOOKS: dict[ObjectState, Look] = {
    ObjectState.MEMORY: Look("in memory", "#56B4E9", "solid"),
    ObjectState.READ: Look("being read", "#E69F00", "dots"),
    ObjectState.DISK: Look("on disk", "#CC79A7", "hatch"),
    ObjectState.FREED: Look("freed", "#9A9A9A", "hollow"),
    ObjectState.LOST: Look("lost", "#6E6E6E", "cross"),
    ObjectState.PACKED: Look("many objects", "#56B4E9", "bars"),
}
