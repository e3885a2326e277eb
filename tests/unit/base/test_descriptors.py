"""Is the limit of open files raised, and never lowered?"""

from __future__ import annotations

import resource
from typing import Any

import pytest

from minray.base import descriptors


@pytest.fixture
def limits(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Pretend limits: set what getrlimit says, read what was asked for."""
    state: dict[str, Any] = {"now": (1024, 4096), "asked": []}
    monkeypatch.setattr(resource, "getrlimit", lambda _: state["now"])

    def setrlimit(_: int, wanted: tuple[int, int]) -> None:
        state["asked"].append(wanted)
        if state.get("refused"):
            raise ValueError("not allowed")

    monkeypatch.setattr(resource, "setrlimit", setrlimit)
    return state


def test_the_soft_limit_is_raised_to_the_hard_one(limits: Any) -> None:
    assert descriptors.raise_limit() == 4096
    assert limits["asked"] == [(4096, 4096)]


def test_a_hard_limit_of_a_billion_is_not_taken_whole(limits: Any) -> None:
    limits["now"] = (1024, 1 << 30)
    assert descriptors.raise_limit() == descriptors.ENOUGH


def test_an_unlimited_process_is_left_alone(limits: Any) -> None:
    limits["now"] = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
    assert descriptors.raise_limit() == descriptors.ENOUGH
    assert limits["asked"] == []


def test_a_refusal_leaves_what_was(limits: Any) -> None:
    limits["refused"] = True
    assert descriptors.raise_limit() == 1024


def test_workers_share_what_there_is(limits: Any) -> None:
    limits["now"] = (150, 150)
    assert descriptors.workers_allowed() == (150 - descriptors.FOR_THE_REST) // descriptors.PER_WORKER
