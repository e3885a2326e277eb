"""Where do the members of a group meet, and who notices that one is missing?

One named async actor a group. A member that begins an operation comes with what it has (a reference to an object
in shared memory, or a small array itself) and waits, as a coroutine, until everybody it concerns has come; then
all of them get what each of them brought. The data itself never passes through here.

    rank 0 ──allreduce, ref──►┌────────────┐
    rank 1 ──allreduce, ref──►│ rendezvous │──► [ref of 0, ref of 1] to both
                              └────────────┘
        ▲ too late, in another operation, with another shape, or dead: all get an error that names the rank

Deaths are told by the kernel (a pidfd becomes readable), so nobody polls. An error is for good: the members no
longer agree on how many operations there were.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterable
from typing import Any

import minray

NAME_PREFIX = "info_"  # Ray's name for the actor that knows a group
DEFAULT_TIMEOUT_MS = 30_000


class Meeting:
    """One operation, while its members arrive."""

    def __init__(self, members: Iterable[int]) -> None:
        self.missing = set(members)
        self.headers: dict[int, tuple[str, str]] = {}
        self.brought: dict[int, Any] = {}
        self.complete = asyncio.Event()
        self.error: Exception | None = None

    def arrive(self, rank: int, header: tuple[str, str], payload: Any) -> None:
        """`rank` has come. The last one completes the meeting, or finds that they disagree."""
        self.missing.discard(rank)
        self.headers[rank] = header
        self.brought[rank] = payload
        if not self.missing and not self.error:
            text = disagreement(self.headers)
            self.error = ValueError(text) if text else None
            self.complete.set()

    def fail(self, error: Exception) -> None:
        """It will not take place."""
        if not self.complete.is_set():
            self.error = error
            self.complete.set()


def disagreement(headers: dict[int, tuple[str, str]]) -> str:
    """What the ranks do not agree on; empty when they do. A header is (what is called, of which tensor)."""
    groups: dict[tuple[str, str], list[int]] = {}
    for rank, header in sorted(headers.items()):
        groups.setdefault(header, []).append(rank)
    if len(groups) == 1:
        return ""
    said = [
        f"{ranks_text(ranks)} called {operation} of {tensor}" for (operation, tensor), ranks in groups.items()
    ]
    return "The ranks of the group disagree: " + "; ".join(said) + "."


def ranks_text(ranks: Iterable[int]) -> str:
    """ "rank 1", or "ranks 1, 2"."""
    numbers = sorted(ranks)
    return f"rank{'s' if len(numbers) > 1 else ''} " + ", ".join(map(str, numbers))


class Rendezvous:
    """The group's actor. It answers (error, value): raised here, an error would carry a traceback of ours."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._declared: Any = None
        self._world_size = 0
        self._pids: dict[int, int] = {}
        self._watched: dict[int, int] = {}  # rank -> pidfd
        self._meetings: dict[Any, Meeting] = {}
        self._broken: Exception | None = None
        self._closing = False

    async def declare(
        self, actor_ids: list[str], world_size: int, ranks: list[int], backend: str, ms: int
    ) -> None:
        """Note what the driver said of the group."""
        self._declared = (actor_ids, world_size, ranks, backend, ms)

    async def get_info(self) -> Any:
        """What the driver said of the group; None if members make it by themselves."""
        return self._declared

    async def join(
        self, rank: int, world_size: int, pid: int, timeout_s: float
    ) -> tuple[Exception | None, bool]:
        """Become a member; wait for all others. Returns (error, whether to try again: an old group is ending)."""
        if self._closing:
            return None, True
        if self._world_size not in (0, world_size):
            text = f"Rank {rank} says world_size={world_size}, others said {self._world_size}."
            return ValueError(text), False
        if self._pids.get(rank, pid) != pid:
            text = f"Rank {rank} is taken by process {self._pids[rank]}; process {pid} cannot have it too."
            return ValueError(text), False
        if self._broken:
            return self._broken, False
        self._world_size = world_size
        self._pids[rank] = pid
        self._watch(rank, pid)
        error, _ = await self.meet("join", range(world_size), rank, ("join", "the group"), None, timeout_s)
        return error, False

    def _watch(self, rank: int, pid: int) -> None:
        try:
            self._watched[rank] = descriptor = os.pidfd_open(pid)
        except (OSError, AttributeError):
            return  # no pidfd on this system: then a death is told by the timeout
        asyncio.get_running_loop().add_reader(descriptor, self._died, rank)

    def _unwatch(self, rank: int) -> None:
        descriptor = self._watched.pop(rank, None)
        if descriptor is not None:
            asyncio.get_running_loop().remove_reader(descriptor)
            os.close(descriptor)

    def _died(self, rank: int) -> None:
        self._unwatch(rank)
        self._break(RuntimeError, f"Rank {rank} of the group (process {self._pids.pop(rank, 0)}) died.")
        if not self._pids:
            self._closing = True
            minray.kill(minray.get_actor(self._name))  # nobody is left to destroy the group

    async def leave(self, rank: int) -> bool:
        """No longer a member. Returns whether that was the last one."""
        self._unwatch(rank)
        if self._pids.pop(rank, None) is not None:
            self._break(RuntimeError, f"Rank {rank} has left the group (destroy_collective_group).")
        self._closing = self._closing or not self._pids
        return not self._pids

    def _break(self, kind: type[Exception], reason: str) -> None:
        if self._broken is None:
            self._broken = kind(f"{reason} Destroy the group in all its members and make it again.")
        for meeting in self._meetings.values():
            meeting.fail(self._broken)

    async def meet(
        self,
        key: Any,
        members: Iterable[int],
        rank: int,
        header: tuple[str, str],
        payload: Any,
        timeout_s: float,
    ) -> tuple[Exception | None, Any]:
        """Bring `payload`; wait for all `members`. Returns (error, {rank: what it brought})."""
        if self._broken:
            return self._broken, None
        meeting = self._meetings.get(key)
        if meeting is None:
            meeting = self._meetings[key] = Meeting(members)
        meeting.arrive(rank, header, payload)
        try:
            await asyncio.wait_for(meeting.complete.wait(), timeout_s)
        except TimeoutError:
            late, waiting = ranks_text(meeting.missing), ranks_text(meeting.headers)
            text = (
                f"{late.capitalize()} did not come to {header[0]} within {timeout_s:g} s; {waiting} waited."
            )
            self._break(TimeoutError, text)
        self._meetings.pop(key, None)
        if meeting.error:
            self._broken = self._broken or meeting.error
            return meeting.error, None
        return None, meeting.brought
