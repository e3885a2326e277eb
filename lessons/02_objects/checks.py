"""When is an exercise of lesson 02 solved?

The teacher's copy of the checks. A trial's `call` runs where the student's code runs; `arguments` and
the judging functions run in the judge (see `minray.grading.exercise`). Arrays hold whole numbers, so
that sums are exact and the judge needs no numpy.
"""

from __future__ import annotations

import gc
import time
from typing import Any

from minray.grading import trace as t
from minray.grading.exercise import Attempt, Case, Exercise, Trial
from minray.grading.wire import describe

LARGE = 1_000_000  # bytes: our arrays are larger, and nothing else is
LET_GO_S = 0.1


def expect(value: Any, expected: Any) -> str | None:
    """None when they are equal, or the difference in one line."""
    if value == expected:
        return None
    return f"expected {describe(expected)}, got {describe(value)}"


def let_go(ray: Any) -> None:
    """What the function left behind, and nobody refers to, is freed now: the next put sees to it."""
    gc.collect()
    time.sleep(LET_GO_S)
    ray.put("the last word")


def references(ray: Any, answer: Any) -> bool:
    """Is it a list of references?"""
    return isinstance(answer, list) and all(isinstance(ref, ray.ObjectRef) for ref in answer)


# ------------------------------------------------------------------------------------------ once
SAMPLES = 250_000  # float64: 2 MB


def _call_with_array(function: Any, ray: Any, arguments: Any) -> Any:
    import numpy as np

    array = np.arange(SAMPLES, dtype=np.float64) + arguments["shift"]
    answer = function(array, list(arguments["factors"]))
    let_go(ray)
    return answer


def _factors(count: int) -> Any:
    return lambda rng: {"shift": rng.randrange(100), "factors": rng.sample(range(1, 1000), count)}


TWELVE = Trial("twelve factors", _factors(12), _call_with_array)
NO_FACTORS = Trial("no factors", _factors(0), _call_with_array)


def _right_sums(attempt: Attempt) -> str | None:
    whole = SAMPLES * (SAMPLES - 1) // 2 + SAMPLES * attempt.arguments["shift"]
    return expect(attempt.value, [factor * whole for factor in attempt.arguments["factors"]])


def _one_scaled_sum_each(attempt: Attempt) -> str | None:
    found, wanted = len(t.submissions(attempt.trace or (), "scaled_sum")), len(attempt.arguments["factors"])
    return None if found == wanted else f"{found} tasks named scaled_sum for {wanted} factors"


def _stored_once(attempt: Attempt) -> str | None:
    found = len(t.stored(attempt.trace or (), LARGE))
    return None if found == 1 else f"the array was stored {found} times"


def _submitted_before_get(attempt: Attempt) -> str | None:
    trace, wanted = attempt.trace or (), len(attempt.arguments["factors"])
    if not t.submissions(trace, "scaled_sum"):
        return "no scaled_sum task was submitted"
    if t.get_in_loop(trace, "scaled_sum"):
        return "it waits for each result before it submits the next task"
    found = t.submitted_before_first_get(trace, "scaled_sum")
    return None if found == wanted else f"{found} of {wanted} were submitted before the first wait"


def _all_is_freed(attempt: Attempt) -> str | None:
    trace = attempt.trace or ()
    if not t.stored(trace, LARGE):
        return "no array was stored"
    left = len(t.still_stored(trace, LARGE))
    return (
        None
        if not left
        else f"{left} stored array{'s are' if left > 1 else ' is'} still there: who refers to it?"
    )


ONCE = Exercise(
    "once",
    "Exercise 1: store it once",
    "scaled_sums",
    (
        Case("gives the sums, in the order of the factors", TWELVE, _right_sums),
        Case("no factors give an empty list", NO_FACTORS, _right_sums),
        Case("every factor is one scaled_sum task", TWELVE, _one_scaled_sum_each, reads_trace=True),
        Case("the array is stored exactly once", TWELVE, _stored_once, reads_trace=True),
        Case(
            "all tasks are submitted before the first wait", TWELVE, _submitted_before_get, reads_trace=True
        ),
        Case("nothing of it is left when the function is over", TWELVE, _all_is_freed, reads_trace=True),
    ),
    (
        "What do you pass to scaled_sum.remote: the array itself, or a reference to it?",
        "Before the loop: ref = ray.put(array). In the loop: scaled_sum.remote(ref, factor).",
    ),
)


# ---------------------------------------------------------------------------------------- centre
ODD = 200_001  # float64: 1.6 MB, and the mean of the numbers below it is a whole one


def _call_with_stored(function: Any, ray: Any, shifts: Any) -> Any:
    import numpy as np

    refs = [ray.put(np.arange(ODD, dtype=np.float64) + shift) for shift in shifts]
    answer = function(list(refs))
    if answer is None:
        return None
    if not references(ray, answer):
        return {"references": False, "value": type(answer).__name__}
    arrays = ray.get(answer, timeout=30)
    edges = [
        [float(array[0]), float(array[-1]), len(array)]
        if isinstance(array, np.ndarray)
        else type(array).__name__
        for array in arrays
    ]
    firsts = [float(ray.get(ref)[0]) for ref in refs]
    return {"references": True, "edges": edges, "firsts": firsts}


def _shifts(count: int) -> Any:
    return lambda rng: rng.sample(range(1, 100), count)


FIVE_ARRAYS = Trial("five arrays", _shifts(5), _call_with_stored)
NO_ARRAYS = Trial("no arrays", _shifts(0), _call_with_stored)


def _gives_references(attempt: Attempt) -> str | None:
    if not attempt.value["references"]:
        return f"expected a list of references, got a {attempt.value['value']}"
    return expect(len(attempt.value["edges"]), len(attempt.arguments))


def _centred(attempt: Attempt) -> str | None:
    half = (ODD - 1) / 2
    for edges in attempt.value["edges"]:
        if isinstance(edges, str):
            return f"expected arrays behind the references, got a {edges}"
        if edges != [-half, half, ODD]:
            return f"expected an array from {-half:g} to {half:g}, got one from {edges[0]:g} to {edges[1]:g}"
    return expect(len(attempt.value["edges"]), len(attempt.arguments))


def _inputs_unchanged(attempt: Attempt) -> str | None:
    return expect(attempt.value["firsts"], [float(shift) for shift in attempt.arguments])


def _driver_stores_nothing(attempt: Attempt) -> str | None:
    trace, ours = attempt.trace or (), len(attempt.arguments)
    if not t.submissions(trace, "centre"):
        return "no centre task was submitted"
    arguments = len(t.stored(trace, LARGE, "argument"))
    if arguments:
        return f"{arguments} arrays travelled as values: they were stored once more for the call"
    puts = len(t.stored(trace, LARGE, "put")) - ours
    return None if not puts else f"{puts} arrays were stored by ray.put: let the task's result be the object"


def _results_once(attempt: Attempt) -> str | None:
    found, wanted = len(t.stored(attempt.trace or (), LARGE, "result")), len(attempt.arguments)
    return None if found == wanted else f"{found} large results were stored for {wanted} arrays"


def _waits_for_nothing(attempt: Attempt) -> str | None:
    trace, wanted = attempt.trace or (), len(attempt.arguments)
    found = t.submitted_before_first_get(trace, "centre")
    return None if found == wanted else f"{found} of {wanted} tasks were submitted before the first wait"


CENTRE = Exercise(
    "centre",
    "Exercise 2: work on shared memory",
    "centre_all",
    (
        Case("returns one reference for each array", FIVE_ARRAYS, _gives_references),
        Case("behind them are the centred arrays", FIVE_ARRAYS, _centred),
        Case("the arrays that came in are as they were", FIVE_ARRAYS, _inputs_unchanged),
        Case("no arrays give an empty list", NO_ARRAYS, _gives_references),
        Case("the driver itself stores no array", FIVE_ARRAYS, _driver_stores_nothing, reads_trace=True),
        Case("each result is stored exactly once", FIVE_ARRAYS, _results_once, reads_trace=True),
        Case("it waits for nothing", FIVE_ARRAYS, _waits_for_nothing, reads_trace=True),
    ),
    (
        "The array in the task is read-only. `array - 1` makes a new one, `array -= 1` writes into the old one.",
        "In the task: return array - array.mean(). Outside: [centre.remote(ref) for ref in refs], and no ray.get.",
    ),
)


# --------------------------------------------------------------------------------------- budget
BUDGET = 6
ROWS = 500_000  # of the arrays that `make` makes: float64, 4 MB


def _call_with_numbers(function: Any, ray: Any, numbers: Any) -> Any:
    answer = function(list(numbers))
    let_go(ray)
    return answer


def _numbers(count: int) -> Any:
    return lambda rng: rng.sample(range(1, 1000), count)


SIXTEEN = Trial("sixteen numbers", _numbers(16), _call_with_numbers)
SEVEN = Trial("seven numbers", _numbers(7), _call_with_numbers)
NONE_AT_ALL = Trial("no numbers", _numbers(0), _call_with_numbers)


def _right_totals(attempt: Attempt) -> str | None:
    return expect(attempt.value, [ROWS * number for number in attempt.arguments])


def _one_of_each(attempt: Attempt) -> str | None:
    trace, wanted = attempt.trace or (), len(attempt.arguments)
    found = [len(t.submissions(trace, name)) for name in ("make", "total")]
    return (
        None
        if found == [wanted, wanted]
        else f"{found[0]} make and {found[1]} total tasks for {wanted} numbers"
    )


def _within_budget(attempt: Attempt) -> str | None:
    trace = attempt.trace or ()
    if not t.stored(trace, LARGE):
        return "no array was stored"
    most = t.most_stored(trace, LARGE)
    return None if most <= BUDGET else f"{most} arrays were in memory at the same time"


def _made_in_parallel(attempt: Attempt) -> str | None:
    peak = t.max_overlap(attempt.trace or (), "make")
    return None if peak >= 2 else f"{peak} make task ran at a time"


def _no_array_to_the_driver(attempt: Attempt) -> str | None:
    trace = attempt.trace or ()
    if not t.submissions(trace, "make"):
        return "no make task was submitted"
    found = len(t.fetched_by_driver(trace, "make"))
    copies = len(t.stored(trace, LARGE, "argument")) + len(t.stored(trace, LARGE, "put"))
    if found:
        return f"the driver asked for {found} of the arrays"
    return None if not copies else f"the driver stored {copies} arrays"


BUDGET_OF_SIX = Exercise(
    "budget",
    "Exercise 3: much data in little memory",
    "sums_of",
    (
        Case("gives the sums, in the order of the numbers", SIXTEEN, _right_totals),
        Case("no numbers give an empty list", NONE_AT_ALL, _right_totals),
        Case("every number is one make and one total task", SIXTEEN, _one_of_each, reads_trace=True),
        Case("arrays are made at the same time", SIXTEEN, _made_in_parallel, reads_trace=True),
        Case(f"never more than {BUDGET} arrays are in memory", SIXTEEN, _within_budget, reads_trace=True),
        Case("no array comes to the driver", SIXTEEN, _no_array_to_the_driver, reads_trace=True),
        Case("nothing is left when the function is over", SIXTEEN, _all_is_freed, reads_trace=True),
        ### BEGIN HIDDEN TESTS
        Case("works for seven numbers: the last wave is a small one", SEVEN, _right_totals, hidden=True),
        ### END HIDDEN TESTS
    ),
    (
        "An array lives as long as something refers to it. How many references do you hold at a time?",
        "Work in waves of four numbers: make them, total them, ray.get the totals. Keep the totals only.",
    ),
)

EXERCISES = (ONCE, CENTRE, BUDGET_OF_SIX)
