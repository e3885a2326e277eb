"""When memory is short objects go to disk: every value stays what it was, and nothing is moved under a reader."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import minray as ray
from minray.base import events as ev
from minray.engine.seam import current
from minray.experimental import get_object_locations

pytestmark = [pytest.mark.cluster]

MB = 1 << 20
STORE_BYTES = 80 * MB
ITEMS = 10 * MB // 8  # float64s in an object of 10 MB


@pytest.fixture(scope="module", autouse=True)
def _cluster() -> Iterator[None]:
    ray.init(num_cpus=2, object_store_memory=STORE_BYTES)
    yield
    ray.shutdown()


def _until(what: Callable[[], Any], within_s: float = 30.0) -> None:
    give_up = time.monotonic() + within_s
    while not what():
        assert time.monotonic() < give_up, "it did not come to that"
        time.sleep(0.02)


def _store() -> dict[str, Any]:
    return dict(current().core.ask_node("store"))


def _files() -> list[str]:
    try:
        return os.listdir(current().core.config.spill_dir)
    except FileNotFoundError:
        return []


@pytest.fixture(autouse=True)
def _nothing_is_left_after_each() -> Iterator[None]:
    yield
    gc.collect()
    _until(lambda: not _files())
    _until(lambda: current().core.store.arena.live_bytes() == 0)


@ray.remote
def _filled(value: float, items: int = ITEMS) -> Any:
    return np.full(items, value)


@ray.remote
def _ends(*arrays: Any) -> list[float]:
    return [float(array[end]) for array in arrays for end in (0, -1)]


@ray.remote
class _Keeper:
    def __init__(self) -> None:
        self.kept: list[Any] = []

    def keep(self, value: Any) -> int:
        self.kept.append(value)
        return len(self.kept)

    def keep_ref(self, box: list[Any]) -> None:
        self.kept.append(box[0])

    def read(self) -> list[float]:
        return [float(value[0]) for value in self.kept]

    def read_refs(self) -> list[float]:
        return [float(ray.get(ref)[0]) for ref in self.kept]

    def drop(self) -> None:
        self.kept.clear()

    def state(self) -> Any:
        return np.full(3 * ITEMS, float(len(self.kept)))

    def put(self, value: float) -> list[Any]:
        return [ray.put(np.full(ITEMS, value))]

    def pid(self) -> int:
        return os.getpid()


def test_puts_and_results_beyond_the_store_all_come_back() -> None:
    refs = [ray.put(np.full(ITEMS, float(i))) for i in range(16)]
    refs += [_filled.remote(float(i)) for i in range(16, 32)]
    assert [float(ray.get(ref)[-1]) for ref in refs] == list(range(32))
    assert [float(value[0]) for value in ray.get(refs)] == list(range(32))  # all at once: more than the store
    assert ray.get([_ends.remote(ref) for ref in refs]) == [[float(i), float(i)] for i in range(32)]
    assert ray.get(_ends.remote(*refs)) == [float(i // 2) for i in range(64)]
    assert _store()["spilled_objects"] >= 24


def test_what_was_used_last_stays_in_memory() -> None:
    refs = [ray.put(np.full(ITEMS, float(i))) for i in range(6)]
    ray.get(refs[0])
    refs += [ray.put(np.full(ITEMS, float(i))) for i in range(6, 9)]
    in_memory = [bool(ref.v.block[2]) for ref in refs]
    assert in_memory[0], "it was read last"
    assert not in_memory[1], "it was used longest ago"
    assert all(in_memory[-3:]), "they are the newest"


def test_what_anybody_reads_is_never_moved() -> None:
    mine = [ray.get(ray.put(np.full(ITEMS // 2, float(i)))) for i in range(4)]
    keeper = _Keeper.remote()
    theirs = [ray.put(np.full(ITEMS // 2, 10.0 + i)) for i in range(4)]
    for ref in theirs:
        ray.get(keeper.keep.remote(ref))
    pressed = [ray.put(np.full(ITEMS, 100.0 + i)) for i in range(12)]
    for i, view in enumerate(mine):
        assert (view == i).all()
    assert ray.get(keeper.read.remote()) == [10.0, 11.0, 12.0, 13.0]
    assert all(ref.v.block[2] for ref in theirs), "a view in another process lives"
    assert [float(ray.get(ref)[0]) for ref in pressed] == [100.0 + i for i in range(12)]
    ray.get(keeper.drop.remote())

    def moved() -> bool:
        ray.put(np.zeros(ITEMS)), [ray.put(np.zeros(ITEMS)) for _ in range(9)]
        return any(not ref.v.block[2] for ref in theirs)

    _until(moved)  # now they may


def test_readers_and_writers_in_many_processes_never_see_a_wrong_byte() -> None:
    @ray.remote
    def churn(seed: int, refs: list[Any]) -> int:
        dice = np.random.default_rng(seed)
        held: list[tuple[int, Any]] = []
        wrong = 0
        for _ in range(30):
            index = int(dice.integers(len(refs)))
            held.append((index, ray.get(refs[index])))
            ray.put(np.full(int(dice.integers(20_000, ITEMS)), -1.0))
            if len(held) > 4:
                held.pop(int(dice.integers(len(held))))
            wrong += sum(not (value == float(index)).all() for index, value in held)
        return wrong

    refs = [ray.put(np.full(ITEMS // 2, float(i))) for i in range(24)]
    assert ray.get([churn.remote(seed, refs) for seed in range(4)]) == [0] * 4


def test_an_object_larger_than_the_store_is_put_returned_and_passed() -> None:
    large = np.arange(12 * MB)  # 96 MB
    ref = ray.put(large)
    assert (ray.get(ref) == large).all()
    assert ray.get(_ends.remote(ref)) == [0.0, 12 * MB - 1.0]
    assert ray.get(_ends.remote(large)) == [0.0, 12 * MB - 1.0]
    assert ray.get(_filled.remote(2.0, 12 * MB)).sum() == 24 * MB


def test_the_location_of_an_object_says_whether_it_lies_on_disk() -> None:
    small, large = ray.put(np.zeros(ITEMS)), ray.put(np.zeros(20 * ITEMS))
    rows = get_object_locations([small, large])
    assert not rows[small]["did_spill"] and rows[large]["did_spill"]
    assert rows[large]["node_ids"] == [ray.get_runtime_context().get_node_id()]


def test_large_states_of_actors_come_back() -> None:
    keepers = [_Keeper.remote() for _ in range(2)]
    states = [keeper.state.remote() for _ in range(3) for keeper in keepers]  # 30 MB each
    assert [float(state.sum()) for state in ray.get(states)] == [0.0] * 6
    assert all(state.size == 3 * ITEMS for state in ray.get(states))


def test_references_inside_a_spilled_value_still_work() -> None:
    inner = [ray.put(np.full(ITEMS // 4, float(i))) for i in range(4)]
    outer = ray.put((inner, np.zeros(ITEMS)))
    del inner
    pressed = [ray.put(np.ones(ITEMS)) for _ in range(12)]
    assert not outer.v.block[2], "it was spilled"
    found, _ = ray.get(outer)
    assert [float(ray.get(ref)[0]) for ref in found] == [0.0, 1.0, 2.0, 3.0]

    @ray.remote
    def read(value: Any) -> list[float]:
        return [float(ray.get(ref)[0]) for ref in value[0]]

    assert ray.get(read.remote(outer)) == [0.0, 1.0, 2.0, 3.0]
    del pressed


def test_a_place_given_out_before_the_spill_leads_to_the_new_one() -> None:
    keeper = _Keeper.remote()
    refs = [ray.put(np.full(ITEMS, float(i))) for i in range(3)]
    for ref in refs:
        ray.get(keeper.keep_ref.remote([ref]))
    assert ray.get(keeper.read_refs.remote()) == [0.0, 1.0, 2.0]  # it has been told the blocks
    pressed = [ray.put(np.ones(ITEMS)) for _ in range(12)]
    assert ray.get(keeper.read_refs.remote()) == [0.0, 1.0, 2.0]
    waiting = [_ends.remote(ref) for ref in refs for _ in range(3)]
    assert ray.get(waiting) == [[float(i // 3)] * 2 for i in range(9)]
    ray.get(keeper.drop.remote())
    del pressed


def test_large_arguments_waiting_in_a_queue_are_spilled_too() -> None:
    refs = [_ends.remote(np.full(ITEMS, float(i))) for i in range(20)]
    assert ray.get(refs) == [[float(i)] * 2 for i in range(20)]


def test_wait_finds_spilled_objects_ready() -> None:
    refs = [ray.put(np.full(ITEMS, float(i))) for i in range(12)]
    for fetch_local in (True, False):
        ready, rest = ray.wait(refs, num_returns=12, timeout=0, fetch_local=fetch_local)
        assert ready == refs and not rest


def test_views_outlive_the_reference_and_the_file() -> None:
    refs = [ray.put(np.full(ITEMS, float(i))) for i in range(12)]
    # Usually the first; where the free memory is in pieces, those that lie where most is gained.
    value, spilled = next((i, ref) for i, ref in enumerate(refs) if not ref.v.block[2])
    view = ray.get(spilled)[5:]
    with pytest.raises(ValueError, match="read-only"):
        view[0] = 1
    refs.clear()
    del spilled
    gc.collect()
    ray.put(np.full(ITEMS, -1.0))
    assert (view == value).all()


def test_objects_of_a_killed_owner_leave_no_file() -> None:
    keeper = _Keeper.remote()
    held = [ray.get(keeper.put.remote(float(i)))[0] for i in range(12)]
    assert float(ray.get(held[0])[0]) == 0.0
    assert _files()
    os.kill(ray.get(keeper.pid.remote()), signal.SIGKILL)
    _until(lambda: not _files())
    with pytest.raises(ray.exceptions.OwnerDiedError):
        ray.get(held[1])
    assert float(ray.get(_filled.remote(1.0))[0]) == 1.0


def test_the_memory_of_killed_processes_is_used_again() -> None:
    @ray.remote(max_restarts=0)
    class Hoarder:
        def fill(self) -> list[Any]:
            self.own = [ray.put(np.full(ITEMS, 1.0)) for _ in range(3)]
            self.nested = [_filled.remote(2.0) for _ in range(2)]
            self.views = ray.get(self.own[:1]) + ray.get(self.nested)
            return [os.getpid(), *self.nested]

        def large(self) -> Any:
            return np.full(ITEMS, 3.0)

    spilled = _store()["spilled_objects"]
    kept = []
    for _ in range(10):  # five objects of 10 MB each time, in a store of 80 MB
        hoarder = Hoarder.remote()
        pid, *nested = ray.get(hoarder.fill.remote())
        kept.append(hoarder.large.remote())
        if len(kept) > 2:
            kept.pop(0)
        assert float(ray.get(kept[-1])[0]) == 3.0
        os.kill(pid, signal.SIGKILL)
        _until(lambda pid=pid: not os.path.exists(f"/proc/{pid}"))  # type: ignore[misc]
        with pytest.raises(ray.exceptions.RayActorError):
            ray.get(hoarder.large.remote())
        del nested
    assert [float(ray.get(ref)[0]) for ref in kept] == [3.0, 3.0]
    assert _store()["spilled_objects"] - spilled < 25, "the dead were pushed out to disk instead of forgotten"
    kept.clear()
    gc.collect()
    ray.put(np.ones(4 * ITEMS))
    _until(lambda: _store()["orphaned_bytes"] == 0)


def test_a_dead_owners_object_is_kept_for_who_reads_it() -> None:
    keeper, maker = _Keeper.remote(), _Keeper.remote()
    [ref] = ray.get(maker.put.remote(7.0))
    view = ray.get(ref)
    ray.get(keeper.keep.remote(ref))
    os.kill(ray.get(maker.pid.remote()), signal.SIGKILL)
    with pytest.raises(ray.exceptions.RayActorError):
        ray.get(maker.pid.remote())
    for _ in range(3):
        pressed = [ray.put(np.full(ITEMS, -1.0)) for _ in range(10)]
        del pressed
    assert (view == 7.0).all()
    assert ray.get(keeper.read.remote()) == [7.0]
    del view
    ray.get(keeper.drop.remote())
    kept: list[Any] = []

    def gone() -> bool:
        kept.append(ray.put(np.ones(ITEMS)))
        return bool(_store()["orphaned_bytes"] == 0)

    _until(gone)


def test_events_tell_what_was_spilled_and_restored() -> None:
    cursor = current().core.events_ahead(0)[0]
    refs = [ray.put(np.full(ITEMS, float(i))) for i in range(12)]
    gone = {ref.hex() for ref in refs if not ref.v.block[2]}
    ray.get(refs[0])
    found = current().core.events(cursor).events
    spilled = [event for event in found if isinstance(event, ev.ObjectSpilled)]
    restored = [event for event in found if isinstance(event, ev.ObjectRestored)]
    assert {event.object_id for event in spilled} == gone
    assert [event.object_id for event in restored] == [refs[0].hex()]
    assert all(event.size_bytes >= 10 * MB and event.seconds > 0 for event in spilled + restored)
    assert restored[0].path in {event.path for event in spilled}
    before = _store()
    assert before["disk_bytes"] >= len(gone) * 10 * MB
    refs.clear()
    gc.collect()
    ray.put(np.ones(ITEMS))
    _until(lambda: _store()["disk_bytes"] == 0)


# ---------------------------------------------------------------- sessions of their own
def _run(program: str, *arguments: str, timeout_s: float = 60.0) -> str:
    script = (
        f"import minray as ray, numpy as np, os, signal, sys, time\nMB = 1 << 20\n{textwrap.dedent(program)}"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, *arguments],
        capture_output=True,
        text=True,
        timeout=timeout_s,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_a_directory_of_choice_is_used_and_left_empty(tmp_path: Path) -> None:
    said = _run(
        """
        ray.init(num_cpus=1, object_store_memory=20 * MB, object_spilling_directory=sys.argv[1])
        refs = [ray.put(np.full(MB, float(i))) for i in range(6)]
        [folder] = os.listdir(sys.argv[1])
        print(len(os.listdir(os.path.join(sys.argv[1], folder))) > 0, [float(ray.get(r)[-1]) for r in refs])
        ray.shutdown()
        print(os.listdir(sys.argv[1]))
        """,
        str(tmp_path),
    )
    assert said.splitlines() == ["True [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]", "[]"]


def test_the_files_go_when_the_driver_is_killed(tmp_path: Path) -> None:
    program = """
        ray.init(num_cpus=1, object_store_memory=20 * MB, object_spilling_directory=sys.argv[1])
        refs = [ray.put(np.full(MB, float(i))) for i in range(6)]
        assert os.listdir(os.path.join(sys.argv[1], os.listdir(sys.argv[1])[0]))
        print("spilled", flush=True)
        time.sleep(60)
        """
    script = f"import minray as ray, numpy as np, os, sys, time\nMB = 1 << 20\n{textwrap.dedent(program)}"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    driver = subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path)], stdout=subprocess.PIPE, text=True, env=environment
    )
    try:
        assert driver.stdout is not None
        assert driver.stdout.readline() == "spilled\n"
    finally:
        driver.kill()
        driver.wait()
        assert driver.stdout is not None
        driver.stdout.close()
    _until(lambda: not os.listdir(tmp_path))


def test_a_full_disk_is_an_error_that_says_so_and_the_program_goes_on(tmp_path: Path) -> None:
    said = _run(
        """
        from minray.worker import store
        ray.init(num_cpus=1, object_store_memory=20 * MB, object_spilling_directory=sys.argv[1],
                 _system_config={"local_fs_capacity_threshold": 0.0})
        kept = []
        try:
            while len(kept) < 10:
                kept.append(ray.put(np.full(MB, float(len(kept)))))
        except ray.exceptions.OutOfDiskError as error:
            print(sys.argv[1] in str(error), "MB free" in str(error), "pid" in str(error), len(kept) >= 2)
        @ray.remote
        def large():
            return np.ones(4 * MB)
        try:
            ray.get(large.remote())
        except ray.exceptions.OutOfDiskError as error:
            print(isinstance(error, ray.exceptions.RayTaskError))
        print([float(ray.get(ref)[-1]) for ref in kept] == [float(i) for i in range(len(kept))])
        kept.clear()
        print(ray.get(ray.put(np.ones(MB))).sum() == MB)
        """,
        str(tmp_path),
    )
    assert said.splitlines() == ["True True True True", "True", "True", "True"]


def test_without_spilling_a_full_store_names_its_largest_holders() -> None:
    said = _run(
        """
        ray.init(num_cpus=1, object_store_memory=20 * MB,
                 _system_config={"automatic_object_spilling_enabled": False})
        kept = []
        try:
            while len(kept) < 10:
                kept.append(ray.put(np.ones(MB)))
        except ray.exceptions.ObjectStoreFullError as error:
            print(f"pid {os.getpid()}" in str(error), "switched off" in str(error))
        kept.clear()
        print(ray.get(ray.put(np.ones(MB))).sum() == MB)
        """
    )
    assert said.splitlines() == ["True True", "True"]


def test_ctrl_c_during_a_spill_leaves_everything_usable() -> None:
    said = _run(
        """
        import threading
        ray.init(num_cpus=1, object_store_memory=20 * MB)
        kept, interrupted = [], 0
        for round in range(8):
            timer = threading.Timer(0.03 * (round + 1), os.kill, (os.getpid(), signal.SIGINT))
            timer.start()
            try:
                for _ in range(12):
                    kept.append(ray.put(np.full(MB // 2, float(len(kept)))))
                time.sleep(5)
            except KeyboardInterrupt:
                interrupted += 1
            timer.join()
        print(interrupted, [float(ray.get(ref)[0]) for ref in kept] == [float(i) for i in range(len(kept))])
        ray.shutdown()
        """
    )
    assert said.split() == ["8", "True"]
