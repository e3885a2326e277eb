"""Does a student's solution do what was asked, and does it behave as was asked?

    from minray.grading import checker
    check = checker("01_tasks", ray)
    check("squares", square_all)        # a number to nbgrader, a card in Jupyter

`trace` asks a recorded run how it behaved (overlap, order, waiting), `exercise` turns that and values
into cases, `card` draws the result, `judge` grades a file in a process of its own.
"""

from minray.grading.card import Score
from minray.grading.exercise import Attempt, Case, Exercise, Report, Trial
from minray.grading.library import checker
from minray.grading.trace_recorder import traced

__all__ = ["Attempt", "Case", "Exercise", "Report", "Score", "Trial", "checker", "traced"]
