"""A program in a storm of deaths and interrupts, with the store near full, never notices (`python -m tests.chaos`)."""

from __future__ import annotations

import random

import pytest

from tests.chaos.weather import weather

pytestmark = [pytest.mark.cluster, pytest.mark.chaos, pytest.mark.slow]


def test_a_storm_of_deaths_and_interrupts_changes_no_result_and_leaves_nothing() -> None:
    seed = random.randrange(10**6)
    found = weather(seed, tasks=1500)
    print(f"seed {seed}: {found.text}")
    assert found.survived, f"again: python -m tests.chaos --first {seed} --tasks 1500\n{found.text}"
