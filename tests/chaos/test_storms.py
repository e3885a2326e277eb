"""A program in a storm of deaths and interrupts, with the store near full, never notices (`python -m tests.chaos`)."""

from __future__ import annotations

import random

import pytest

import minray
from tests.chaos.soak import soak
from tests.chaos.weather import weather

pytestmark = [pytest.mark.cluster, pytest.mark.chaos, pytest.mark.slow]


def test_a_storm_of_deaths_and_interrupts_changes_no_result_and_leaves_nothing() -> None:
    seed = random.randrange(10**6)
    found = weather(seed, tasks=1500)
    print(f"seed {seed}: {found.text}")
    assert found.survived, f"again: python -m tests.chaos --first {seed} --tasks 1500\n{found.text}"


def test_memory_is_flat_while_fifty_thousand_tasks_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MINRAY_TRACING", "0")  # the event log is bounded, but fills for longer than this
    minray.init(num_cpus=2, log_to_driver=False)
    try:
        first, *_, last = soak(50_000, parts=5)
    finally:
        minray.shutdown()
    # kB. 40,000 tasks that kept one small object each would be more.
    assert last.driver - first.driver < 4_000 and last.node - first.node < 2_000, (first, last)
    growth = [last.each[pid] - size for pid, size in first.each.items() if pid in last.each]
    assert growth and max(growth) < 4_000, (first, last)
