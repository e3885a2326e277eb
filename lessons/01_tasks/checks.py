"""When is an exercise of lesson 01 solved?

The teacher's copy of the checks. A trial's `call` runs where the student's code runs; `arguments` and
the judging functions run in the judge (see `minray.grading.exercise`).
"""

from __future__ import annotations

import math
import time
from random import Random
from typing import Any

from minray.grading import trace as t
from minray.grading.exercise import Attempt, Case, Exercise, Trial
from minray.grading.wire import describe


def expect(value: Any, expected: Any) -> str | None:
    """None when they are equal, or the difference in one line."""
    if value == expected:
        return None
    return f"expected {describe(expected)}, got {describe(value)}"


# --------------------------------------------------------------------------------------- squares
def _plain_call(function: Any, ray: Any, arguments: Any) -> Any:
    return function(list(arguments))


EIGHT = Trial(
    "eight numbers",
    lambda rng: [rng.randrange(-50, 50) for _ in range(7)] + [rng.randrange(50, 99)],
    _plain_call,
)
NOTHING = Trial("no numbers", lambda rng: [], _plain_call)


def _right_squares(attempt: Attempt) -> str | None:
    return expect(attempt.value, [x * x for x in attempt.arguments])


def _one_task_each(attempt: Attempt) -> str | None:
    found, wanted = len(t.submissions(attempt.trace or (), "slow_square")), len(attempt.arguments)
    return None if found == wanted else f"{found} tasks named slow_square for {wanted} numbers"


def _submitted_first(attempt: Attempt) -> str | None:
    trace, wanted = attempt.trace or (), len(attempt.arguments)
    if t.get_in_loop(trace, "slow_square"):
        return "it waits for each result before it submits the next task"
    found = t.submitted_before_first_get(trace, "slow_square")
    return None if found == wanted else f"{found} of {wanted} were submitted before the first ray.get"


def _overlapping(attempt: Attempt) -> str | None:
    peak = t.max_overlap(attempt.trace or (), "slow_square")
    return None if peak >= 2 else f"{peak} ran at the same time, at most"


SQUARES = Exercise(
    "squares",
    "Exercise 1: square a list in parallel",
    "square_all",
    (
        Case("gives the squares, in the order of the numbers", EIGHT, _right_squares),
        Case("an empty list gives an empty list", NOTHING, _right_squares),
        Case("every number is one slow_square task", EIGHT, _one_task_each, reads_trace=True),
        Case("all tasks are submitted before the first get", EIGHT, _submitted_first, reads_trace=True),
        Case("tasks run at the same time", EIGHT, _overlapping, reads_trace=True),
    ),
    (
        "ray.get waits. How many tasks have you started when you call it for the first time?",
        "Two steps. First build the list of all references. Then call ray.get once, on the whole list.",
    ),
)


# -------------------------------------------------------------------------------------- arrivals
def _call_with_naps(function: Any, ray: Any, delays_s: Any) -> Any:
    # Nested: it travels to the workers by value, they cannot import this file.
    @ray.remote
    def nap(number: int, seconds: float) -> int:
        time.sleep(seconds)
        return number

    return function([nap.remote(number, seconds) for number, seconds in enumerate(delays_s)])


def _delays(count: int) -> Any:
    """Every 0.25 s one is ready, in a random order that is neither sorted nor reversed."""

    def draw(rng: Random) -> list[float]:
        ranks = list(range(count))
        while ranks in (sorted(ranks), sorted(ranks, reverse=True)):
            rng.shuffle(ranks)
        return [round(0.15 + 0.25 * rank, 2) for rank in ranks]

    return draw


FOUR_NAPS = Trial("four naps", _delays(4), _call_with_naps)
NO_NAPS = Trial("no naps", lambda rng: [], _call_with_naps)
SEVEN_NAPS = Trial("seven naps", lambda rng: [0.05 * rng.randrange(1, 6) for _ in range(7)], _call_with_naps)


def _every_result_once(attempt: Attempt) -> str | None:
    wanted = list(range(len(attempt.arguments)))
    if isinstance(attempt.value, list) and sorted(attempt.value) == wanted:
        return None
    return f"expected each of {describe(wanted)} once, got {describe(attempt.value)}"


def _in_order_of_arrival(attempt: Attempt) -> str | None:
    if attempt.trace is None:  # real Ray: 0.25 s between two naps is a safe distance
        order = sorted(range(len(attempt.arguments)), key=lambda number: attempt.arguments[number])
        return expect(attempt.value, order)
    numbers = {task_id: i for i, task_id in enumerate(t.order(attempt.trace, "nap", by="submitted"))}
    finished = [numbers[task_id] for task_id in t.order(attempt.trace, "nap", by="finished")]
    return expect(attempt.value, finished)


def _takes_what_is_ready(attempt: Attempt) -> str | None:
    if not attempt.value:
        return "it gave no results"
    early = t.waited_for_unready(attempt.trace or ())
    if not early:
        return None
    return f"ray.get had to wait for results that were not ready ({early} of its calls)"


def _starts_with_the_first(attempt: Attempt) -> str | None:
    trace = attempt.trace or ()
    calls, runs = t.driver_gets(trace), t.tasks_named(trace, "nap")
    if calls and runs and min(call.time_s for call in calls) < runs[-1].time_s:
        return None
    return "it had its first result when all naps were over"


def _no_busy_loop(attempt: Attempt) -> str | None:
    waits, naps = len(t.driver_gets(attempt.trace or (), "wait")), len(attempt.arguments)
    if waits == 0:
        return "it never called ray.wait"
    return (
        None
        if waits <= naps + 1
        else f"{waits} calls of ray.wait for {naps} naps: let ray.wait do the waiting"
    )


ARRIVALS = Exercise(
    "arrivals",
    "Exercise 2: take results as they arrive",
    "in_order_of_arrival",
    (
        Case("gives every result exactly once", FOUR_NAPS, _every_result_once),
        Case("gives them in the order in which the tasks finished", FOUR_NAPS, _in_order_of_arrival),
        Case("an empty list gives an empty list", NO_NAPS, _every_result_once),
        Case("never has to wait in ray.get", FOUR_NAPS, _takes_what_is_ready, reads_trace=True),
        Case(
            "takes the first result while others still run",
            FOUR_NAPS,
            _starts_with_the_first,
            reads_trace=True,
        ),
        Case("lets ray.wait do the waiting", FOUR_NAPS, _no_busy_loop, reads_trace=True),
        ### BEGIN HIDDEN TESTS
        Case("works with more tasks than CPUs", SEVEN_NAPS, _every_result_once, hidden=True),
        ### END HIDDEN TESTS
    ),
    (
        "ray.wait(refs) returns two lists: the ready and the pending. What do you do with the second one?",
        "While something is pending: ready, pending = ray.wait(pending), then ray.get what is ready.",
    ),
)


# ------------------------------------------------------------------------------------------ tree
def _call_with_refs(function: Any, ray: Any, numbers: Any) -> Any:
    answer = function([ray.put(number) for number in numbers])
    if answer is None:
        return None
    if not isinstance(answer, ray.ObjectRef):
        return {"is_reference": False, "value": answer}
    return {"is_reference": True, "value": ray.get(answer, timeout=30)}


def _numbers(count: int) -> Any:
    return lambda rng: [rng.randrange(1, 1000) for _ in range(count)]


EIGHT_REFS = Trial("eight references", _numbers(8), _call_with_refs)
SEVEN_REFS = Trial("seven references", _numbers(7), _call_with_refs)
ONE_REF = Trial("one reference", _numbers(1), _call_with_refs)


def _right_sum(attempt: Attempt) -> str | None:
    if not attempt.value["is_reference"]:
        return f"expected a reference, got {describe(attempt.value['value'])}"
    return expect(attempt.value["value"], sum(attempt.arguments))


def _one_add_less(attempt: Attempt) -> str | None:
    found, wanted = len(t.submissions(attempt.trace or (), "add")), len(attempt.arguments) - 1
    return None if found == wanted else f"{found} add tasks; {len(attempt.arguments)} numbers need {wanted}"


def _no_get_between(attempt: Attempt) -> str | None:
    trace = attempt.trace or ()
    wanted = len(attempt.arguments) - 1
    found = t.submitted_before_first_get(trace, "add")
    if not t.submissions(trace, "add"):
        return "no add task was submitted"
    if found < wanted:
        return f"the driver asked for a result when {found} of {wanted} tasks were submitted"
    return None if len(t.fetched_by_driver(trace, "add")) <= 1 else "the driver took results of partial sums"


def _flat_tree(attempt: Attempt) -> str | None:
    trace = attempt.trace or ()
    if not t.submissions(trace, "add"):
        return "no add task was submitted"
    found, wanted = t.depth(trace, "add"), math.ceil(math.log2(len(attempt.arguments)))
    if found < wanted:
        return "the tasks do not pass references to one another"
    return None if found == wanted else f"the longest chain has {found} tasks; a tree needs {wanted}"


TREE = Exercise(
    "tree",
    "Exercise 3: add up in a tree",
    "tree_sum",
    (
        Case("returns a reference to the sum", EIGHT_REFS, _right_sum),
        Case("works for seven numbers: one is left over", SEVEN_REFS, _right_sum),
        Case("one number is its own sum", ONE_REF, _right_sum),
        Case("uses one add task less than there are numbers", EIGHT_REFS, _one_add_less, reads_trace=True),
        Case("the driver never asks for a partial sum", EIGHT_REFS, _no_get_between, reads_trace=True),
        Case("eight numbers need a chain of only three tasks", EIGHT_REFS, _flat_tree, reads_trace=True),
    ),
    (
        "add.remote(a, b) accepts references for a and b, and returns one. You need no ray.get at all.",
        "Work in rounds: pair the neighbours; who has no partner goes on to the next round; stop at one.",
    ),
)

EXERCISES = (SQUARES, ARRIVALS, TREE)
