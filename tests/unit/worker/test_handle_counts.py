"""Every handle that was counted is given back once, whatever becomes of the answer that carried it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from minray.serialization.values import PENDING, STORED, Stored
from minray.worker import object_ref
from minray.worker.borrowing import Borrowing
from minray.worker.deaths import Deaths
from minray.worker.object_events import ObjectEvents
from minray.worker.object_ref import make_borrowed, make_ref
from minray.worker.peer import Peer
from minray.worker.replies import MULTI, Replies
from minray.worker.wire import BORROW, BORROWED, RELEASE, UNBORROW

ME, A, B, C = b"me", b"aa", b"bb", b"cc"
FORM = (b"", [], None, 0)


class _Channel:
    def __init__(self) -> None:
        self.sent: list[Any] = []

    def send(self, message: Any) -> None:
        self.sent.append(message)


class _Process(Borrowing, Replies, Deaths, ObjectEvents):
    """The counting half of a core worker, on channels that only remember."""

    def __init__(self) -> None:
        super().__init__()
        self.worker_id = ME
        self.recorder = None
        self.loop: Any = SimpleNamespace(busy=True, leader_ident=0, pend=lambda: None)
        self.store: Any = SimpleNamespace(
            ended=[], keep=lambda parts, refs, on_end, number: Stored(b"", [], None, refs, 0)
        )

    def peer_for(self, worker_id: bytes) -> Peer:
        if worker_id not in self.peers:
            raise ConnectionError("gone")
        return self.peers[worker_id]

    def join(self, worker_id: bytes) -> Peer:
        peer = Peer(worker_id, "", 1, _Channel())  # type: ignore[arg-type]
        self.peers.setdefault(worker_id, peer)
        return peer


@pytest.fixture
def me(monkeypatch: pytest.MonkeyPatch) -> _Process:
    process = _Process()
    monkeypatch.setattr(object_ref, "core", process)
    return process


def _sent(peer: Peer) -> list[Any]:
    return peer.channel.sent  # type: ignore[attr-defined,no-any-return]


def test_an_answer_that_nobody_waits_for_gives_its_handles_back(me: _Process) -> None:
    peer = me.join(A)
    me.on_reply(peer, (1, (7,), (STORED,), ((*FORM, [(A, 3)], 0),), b""))
    me.send_drops()
    assert _sent(peer) == [(UNBORROW, [3])]


def test_of_several_values_those_that_nobody_waits_for_give_theirs_back(me: _Process) -> None:
    peer = me.join(A)
    ref = make_ref(ME, 7)
    ref.task = (7, 1, ())
    me.table[7] = ref
    value = [(STORED, (*FORM, [(A, 3)], 0)), (STORED, (*FORM, [(A, 4)], 0))]
    me._apply(peer, 7, ref, MULTI, value)  # its second reference is unknown
    me.send_drops()
    assert ref.st == STORED and _sent(peer) == [(UNBORROW, [4])]


def test_references_of_two_other_owners_are_released_when_both_have_counted(me: _Process) -> None:
    sender, one, two = me.join(A), me.join(B), me.join(C)
    kept = me.accept_form(sender, STORED, (*FORM, [(B, 1), (C, 2)], 9), make_ref(ME, 5))
    assert [_sent(one)[0][:2], _sent(two)[0][:2]] == [(BORROW, [1]), (BORROW, [2])]
    me.on_borrowed(one, (BORROWED, _sent(one)[0][2]))
    assert _sent(sender) == []
    me.on_borrowed(two, (BORROWED, _sent(two)[0][2]))
    assert _sent(sender) == [(RELEASE, 9)] and kept.refs


def test_references_of_a_dead_owner_are_released_all_the_same(me: _Process) -> None:
    sender = me.join(A)
    value = me.accept_form(sender, STORED, (*FORM, [(B, 1)], 9), make_ref(ME, 5))
    assert _sent(sender) == [(RELEASE, 9)] and value.refs[0].st != PENDING


def test_nothing_is_counted_or_kept_for_a_caller_that_died_while_its_task_ran(me: _Process) -> None:
    caller = me.join(A)
    mine, foreign = make_ref(ME, 1), make_borrowed(B, 2)
    me.form_for_reply(caller, FORM, [mine, foreign])
    assert caller.holds and me._kept and 1 in me.table
    caller.gone = True
    me.drop_holds(caller)
    assert not caller.holds and not me._kept and not me.table
    me.form_for_reply(caller, FORM, [mine, foreign])
    assert not caller.holds and not me._kept and not me.table


def test_the_receivers_own_references_are_kept_until_it_has_read_the_answer(me: _Process) -> None:
    for connection in (me.join(A), me.join(A)):
        token = me.form_for_reply(connection, FORM, [make_borrowed(A, 2)])[-1]
        assert token in me._kept
        me.on_release(connection, (RELEASE, token))
        assert not me._kept


def test_handles_are_counted_and_dropped_on_one_and_the_same_connection(me: _Process) -> None:
    first, second = me.join(A), me.join(A)
    ref = make_borrowed(A, 2)
    tokens = me.register_borrows([ref], None, second)  # its task came on the second
    assert _sent(first) == [(BORROW, [2], tokens[0])] and not _sent(second)
    me.on_borrowed(first, (BORROWED, tokens[0]))
    del ref
    me.send_drops()
    assert _sent(first)[1:] == [(UNBORROW, [2])] and not _sent(second)
