"""What an owner notes about a lease stays true while two threads write it."""

from __future__ import annotations

import struct
from types import SimpleNamespace
from typing import Any

from minray.base.messages import LeaseReturned
from minray.worker.core_state import Lease, TaskGroup
from minray.worker.leasing import Leasing
from minray.worker.replies import Replies

SHAPE = (("CPU", 10_000),)


class Owner(Leasing, Replies):
    """The two parts alone, without a node."""

    def __init__(self) -> None:
        super().__init__()
        self.recorder = None
        self.told: list[Any] = []
        self.loop: Any = SimpleNamespace(call_later=lambda delay_s, call: None)
        self.group = TaskGroup(SHAPE, 4)
        self.peer: Any = SimpleNamespace(lease=None, gone=False)
        self.lease = self.peer.lease = Lease(self.group, self.peer, 7, 0.0)
        self.leases_by_id[7] = self.lease
        self.group.leases.append(self.lease)

    def tell_node(self, message: Any) -> None:
        self.told.append(message)

    def flush(self, group: TaskGroup) -> None:
        raise AssertionError("nothing waits")


def test_a_lease_is_not_given_back_with_a_task_in_it() -> None:
    owner = Owner()
    owner.lease.in_flight = 1  # the main thread has sent it since the pump saw it idle
    owner._give_back(owner.lease)
    assert owner.leases_by_id and owner.group.leases and owner.peer.lease is owner.lease and not owner.told
    owner.lease.in_flight = 0
    owner._give_back(owner.lease)
    assert not owner.leases_by_id and not owner.group.leases and owner.peer.lease is None
    assert [type(message) for message in owner.told] == [LeaseReturned]


def test_a_broken_lease_goes_back_whatever_it_holds() -> None:
    owner = Owner()
    owner.lease.in_flight = 1
    owner._give_back(owner.lease, broken=True)
    assert owner.told == [LeaseReturned(7, True, owner.lease.retired)]


def test_an_answer_takes_only_its_own_batch_off_the_books() -> None:
    owner = Owner()
    lease = owner.lease
    first: list[Any] = [(1, 5, ()), (2, 5, ())]
    second: list[Any] = [(3, 5, ())]
    lease.batches.extend([first, second])
    lease.in_flight, lease.head_left = 3, 2
    times = struct.pack("dd", 0.0, 0.001)
    owner._progress(lease, owner.peer, 1, None, times)
    assert list(lease.batches) == [first, second] and (lease.in_flight, lease.head_left) == (2, 1)
    owner._progress(lease, owner.peer, 1, None, times)
    assert list(lease.batches) == [second] and (lease.in_flight, lease.head_left) == (1, 1)
    owner._progress(lease, owner.peer, 1, None, times)
    assert not lease.batches and lease.in_flight == 0
