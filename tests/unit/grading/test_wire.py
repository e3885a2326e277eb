"""Does data cross to the judge unchanged, and nothing but data?"""

from __future__ import annotations

import json
import socket
import threading
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minray.base.events import GetCalled, TaskSubmitted
from minray.grading.wire import decode_trace, describe, encode_trace, plain, receive, send

json_data = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


@given(json_data)
def test_json_data_is_left_as_it_is(value: Any) -> None:
    assert plain(value) == value and json.loads(json.dumps(plain(value))) == value


def test_tuples_and_arrays_become_lists_and_the_rest_its_types_name() -> None:
    numpy = pytest.importorskip("numpy")
    assert plain((1, (2, 3))) == [1, [2, 3]]
    assert plain([numpy.arange(3), numpy.float64(0.5)]) == [[0, 1, 2], 0.5]
    assert plain([{1: {2, 3}}, object()]) == [{"1": {"type": "set"}}, {"type": "object"}]


def test_an_endless_list_ends() -> None:
    endless: list[Any] = []
    endless.append(endless)
    assert "too deeply nested" in json.dumps(plain(endless))


def test_an_int_that_equals_everything_arrives_as_an_int() -> None:
    class Wildcard(int):
        def __eq__(self, other: object) -> bool:
            return True

        __hash__ = int.__hash__

    assert type(plain(Wildcard(3))) is int


def test_a_trace_survives_the_journey() -> None:
    trace = (
        TaskSubmitted(1.5, "a", "f", "", "", ("b", "c")),
        GetCalled(2.5, 2.0, "get", ("b",), 1, 0, "cell:1", "w"),
    )
    assert decode_trace(json.loads(json.dumps(encode_trace(trace)))) == trace


@pytest.mark.parametrize(
    "row", [["Popen", {"args": "ls"}], ["TaskSubmitted", {"time_s": 1}], "x", None, [1, 2, 3]]
)
def test_only_our_records_are_rebuilt(row: Any) -> None:
    with pytest.raises(ValueError, match="not an event"):
        decode_trace([row])


def test_a_frame_arrives_whole_however_it_was_cut() -> None:
    ours, theirs = socket.socketpair()
    message = {"text": "x" * 300_000}
    with ours, theirs:
        writer = threading.Thread(target=send, args=(ours, message))
        writer.start()
        assert receive(theirs) == message
        writer.join()


def test_a_closed_socket_a_huge_frame_and_a_list_are_refused() -> None:
    ours, theirs = socket.socketpair()
    with theirs:
        with ours:
            ours.sendall(b"\xff\xff\xff\xff" + b"\x00\x00\x00\x02[]")
            with pytest.raises(ValueError, match="limit"):
                receive(theirs)
            with pytest.raises(ValueError, match="not an object"):
                receive(theirs)
        with pytest.raises(EOFError):
            receive(theirs)


def test_a_card_describes_a_value_on_one_short_line() -> None:
    assert describe({"type": "ObjectRef"}) == "a value of type ObjectRef"
    assert len(describe(list(range(1000)))) == 80
