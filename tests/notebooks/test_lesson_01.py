"""Does lesson 01 keep its promises? And does a forged trace earn anything?"""

from __future__ import annotations

from pathlib import Path

import pytest

from minray.grading.judge import Limits, grade
from tests.notebooks.promises import Promises, failed, submission

pytestmark = pytest.mark.notebooks


FORGED = """
import minray.grading.exercise, minray.grading.trace_recorder, contextlib
from minray.base.events import TaskSubmitted, TaskFinished

@contextlib.contextmanager
def forged(*args, **options):
    yield [TaskSubmitted(1.0 + i, "a%d" % i, "slow_square", "", "", ()) for i in range(8)] + [
        TaskFinished(20.0, "a%d" % i, "slow_square", "w", 7, 10.0, "ok", "", 0) for i in range(8)]

minray.grading.exercise.traced = minray.grading.trace_recorder.traced = forged

def square_all(numbers):
    print("score: 100")
    return [x * x for x in numbers]
"""


class TestLesson01(Promises, lesson="01_tasks"):
    @pytest.mark.cluster
    def test_a_forged_recorder_earns_no_trace_point(self, tmp_path: Path) -> None:
        result = grade(self.LESSON, submission(self.LESSON, tmp_path, squares=FORGED), Limits(time_s=60))
        (squares,) = [report for report in result.reports if report.exercise == "squares"]
        by_trace = {case.title for case in self.EXERCISES["squares"].cases if case.reads_trace}
        assert by_trace <= set(failed(squares))
