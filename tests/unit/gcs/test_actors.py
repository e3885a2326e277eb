"""Does an actor's life take the turns that it should? The table alone, no processes."""

from __future__ import annotations

import random
from typing import Any

import pytest

from minray.base.messages import ActorChanged, BecomeActor, CreateActor, DrainActor
from minray.gcs.state.actors import (
    ActorTable,
    DropPlacement,
    ExpectExit,
    Kill,
    Place,
    Settle,
    Tell,
)

OWNER, OTHER, W1, W2 = b"owner", b"other", b"worker-1", b"worker-2"
ID = b"actor-1"


def creation(actor_id: bytes = ID, **options: Any) -> CreateActor:
    values: dict[str, Any] = {
        "actor_id": actor_id,
        "class_name": "Counter",
        "name": "",
        "namespace": "lesson",
        "detached": False,
        "placement": (("CPU", 10_000),),
        "held": (),
        "max_restarts": 0,
        "handle_info": b"handle",
        "spec": b"spec",
    }
    return CreateActor(**{**values, **options})


def table_with(*creations: CreateActor) -> ActorTable:
    table = ActorTable()
    for one in creations:
        conflict, commands = table.created(one, OWNER)
        assert conflict == "" and commands == [Place(one.actor_id, OWNER, one)]
    return table


def build(table: ActorTable, actor_id: bytes = ID, worker: bytes = W1, pid: int = 7) -> list[Any]:
    commands = table.placed(actor_id, worker, worker.decode(), pid, ())
    commands += table.ready(worker, actor_id)
    table.check_invariants()
    return commands


def states(commands: list[Any], watcher: bytes) -> list[str]:
    return [
        command.message.state
        for command in commands
        if isinstance(command, Tell)
        and command.client_id == watcher
        and isinstance(command.message, ActorChanged)
    ]


def test_a_placed_actor_is_built_and_keeps_only_what_it_holds_once_ready() -> None:
    table = table_with(creation())
    assert table.placed(ID, W1, "address", 7, (1,)) == [Tell(W1, BecomeActor(ID, 0, b"spec", (1,)))]
    assert table.describe(ID).state == "pending" and table.describe(ID).address == ""
    assert table.ready(W1, ID) == [Settle(ID)]
    change = table.describe(ID)
    assert (change.state, change.worker_id, change.address, change.pid) == ("alive", W1, "address", 7)


def test_watchers_hear_the_present_state_and_every_change_until_death() -> None:
    table = table_with(creation(max_restarts=1))
    heard = states(table.watched(OTHER, ID), OTHER)
    heard += states(build(table), OTHER)
    heard += states(table.worker_died(W1, "process 7 exited with code 1"), OTHER)
    heard += states(build(table, worker=W2), OTHER)
    heard += states(table.worker_died(W2, "process 7 exited with code 1"), OTHER)
    assert heard == ["pending", "alive", "restarting", "alive", "dead"]
    assert states(table.watched(OTHER, ID), OTHER) == ["dead"]


def test_an_unknown_actor_is_dead() -> None:
    table = ActorTable()
    tell: Any
    (tell,) = table.watched(OTHER, ID)
    assert tell.message.state == "dead" and "no such actor" in tell.message.cause


@pytest.mark.parametrize(("max_restarts", "lives"), [(0, 1), (1, 2), (3, 4), (-1, 9)])
def test_restarts_are_counted_and_minus_one_is_for_ever(max_restarts: int, lives: int) -> None:
    table = table_with(creation(max_restarts=max_restarts))
    for life in range(9):
        worker = b"w%d" % life
        build(table, worker=worker)
        commands = table.worker_died(worker, "it crashed")
        table.check_invariants()
        if not any(isinstance(command, Place) for command in commands):
            break
    assert life + 1 == lives or (max_restarts == -1 and table.describe(ID).state == "restarting")


def test_the_cause_names_class_pid_and_story() -> None:
    table = table_with(creation())
    build(table)
    table.worker_died(W1, "process 7 was killed by SIGSEGV (native code crashed)")
    cause = "actor Counter (pid 7) died: process 7 was killed by SIGSEGV (native code crashed)"
    assert table.describe(ID).cause == cause


def test_a_failed_constructor_is_final_and_keeps_its_error() -> None:
    table = table_with(creation(max_restarts=5))
    table.watched(OTHER, ID)
    table.placed(ID, W1, "address", 7, ())
    commands = table.init_failed(W1, ID, b"pickled error")
    assert states(commands, OTHER) == ["dead"] and Kill(W1, "its actor's constructor failed") in commands
    assert table.describe(ID).error == b"pickled error"
    assert table.worker_died(W1, "killed") == []
    table.check_invariants()


def test_a_constructor_that_crashes_its_process_counts_as_a_restart() -> None:
    table = table_with(creation(max_restarts=1))
    table.placed(ID, W1, "address", 7, ())
    assert any(isinstance(c, Place) for c in table.worker_died(W1, "it crashed"))
    table.placed(ID, W2, "address", 8, ())
    assert not any(isinstance(c, Place) for c in table.worker_died(W2, "it crashed"))
    assert table.describe(ID).state == "dead"


def test_names_are_unique_in_a_namespace_and_free_again_after_death() -> None:
    table = table_with(creation(name="bank"))
    conflict, commands = table.created(creation(b"actor-2", name="bank"), OTHER)
    assert "'bank'" in conflict and "Counter" in conflict and commands == []
    assert table.created(creation(b"actor-3", name="bank", namespace="elsewhere"), OTHER)[0] == ""
    assert table.by_name("bank", "lesson") == (ID, b"handle")
    assert table.named("lesson") == [("bank", "lesson")]
    assert table.named(None) == [("bank", "elsewhere"), ("bank", "lesson")]
    table.kill_asked(ID, no_restart=True)
    assert table.by_name("bank", "lesson") is None
    assert table.created(creation(b"actor-4", name="bank"), OTHER)[0] == ""


def test_a_name_survives_a_restart() -> None:
    table = table_with(creation(name="bank", max_restarts=1))
    build(table)
    table.worker_died(W1, "it crashed")
    assert table.by_name("bank", "lesson") is not None


def test_kill_without_restart_is_final_whatever_max_restarts_says() -> None:
    table = table_with(creation(max_restarts=-1))
    build(table)
    assert table.kill_asked(ID, no_restart=True) == [Kill(W1, "it was killed by minray.kill")]
    table.worker_died(W1, "process 7 was killed because it was killed by minray.kill")
    change = table.describe(ID)
    assert change.state == "dead" and change.no_restart_by_kill
    assert change.cause == "actor Counter (pid 7) ended: it was killed by minray.kill"


def test_kill_with_restart_restarts() -> None:
    table = table_with(creation(max_restarts=1))
    build(table)
    assert table.kill_asked(ID, no_restart=False) == [Kill(W1, "it was killed by minray.kill")]
    assert any(isinstance(c, Place) for c in table.worker_died(W1, "killed"))
    assert table.kill_asked(ID, no_restart=False) == []  # it is being built
    assert not table.describe(ID).no_restart_by_kill


def test_a_pending_actor_can_be_killed() -> None:
    table = table_with(creation())
    table.watched(OTHER, ID)
    commands = table.kill_asked(ID, no_restart=True)
    assert commands[0] == DropPlacement(ID) and states(commands, OTHER) == ["dead"]
    assert table.placed(ID, W1, "address", 7, ()) == [Kill(W1, "its actor was killed before it was built")]
    table.check_invariants()


def test_an_owners_end_kills_its_actors_but_not_detached_ones() -> None:
    table = table_with(creation(max_restarts=-1), creation(b"actor-2", detached=True))
    build(table)
    build(table, b"actor-2", W2)
    assert table.client_gone(OWNER, "driver 4") == [Kill(W1, "its owner, driver 4, ended")]
    table.worker_died(W1, "killed")
    assert table.describe(ID).state == "dead" and "its owner, driver 4, ended" in table.describe(ID).cause
    assert table.describe(b"actor-2").state == "alive"


def test_a_dead_watcher_is_not_told() -> None:
    table = table_with(creation())
    table.watched(OTHER, ID)
    table.client_gone(OTHER, "worker 5")
    assert states(build(table), OTHER) == []


def test_the_last_handle_drains_and_ends_without_restart() -> None:
    table = table_with(creation(max_restarts=-1))
    build(table)
    assert table.handles_gone(OTHER, ID) == []  # only the owner counts handles
    assert table.handles_gone(OWNER, ID) == [Tell(W1, DrainActor(ID))]
    assert table.exiting(W1, ID, "its last handle went out of scope") == [ExpectExit(W1)]
    assert table.worker_died(W1, "process 7 exited with code 0") == []
    assert table.describe(ID).cause == "actor Counter (pid 7) ended: its last handle went out of scope"


def test_handles_gone_before_it_is_built_drain_it_when_it_is_ready() -> None:
    table = table_with(creation())
    assert table.handles_gone(OWNER, ID) == []
    assert build(table)[-1] == Tell(W1, DrainActor(ID))


def test_a_detached_actor_outlives_its_handles() -> None:
    table = table_with(creation(detached=True))
    build(table)
    assert table.handles_gone(OWNER, ID) == []


def test_a_deliberate_exit_frees_the_name_at_once_and_is_announced_when_the_process_is_gone() -> None:
    table = table_with(creation(name="bank", max_restarts=-1))
    table.watched(OTHER, ID)
    build(table)
    assert states(table.exiting(W1, ID, "exit_actor was called"), OTHER) == []
    assert table.by_name("bank", "lesson") is None
    assert states(table.worker_died(W1, "process 7 exited with code 0"), OTHER) == ["dead"]


def test_words_of_an_earlier_incarnation_do_not_count() -> None:
    table = table_with(creation(max_restarts=1))
    build(table)
    table.worker_died(W1, "it crashed")
    table.placed(ID, W2, "address", 8, ())
    assert table.ready(W1, ID) == [] and table.exiting(W1, ID, "late") == []
    assert table.describe(ID).state == "restarting"


def test_the_arguments_of_a_constructor_are_kept_only_while_a_restart_is_possible() -> None:
    table = table_with(creation(), creation(b"actor-2", max_restarts=1))
    build(table)
    build(table, b"actor-2", W2)
    assert table.actors[ID].creation.spec == b""
    assert table.actors[b"actor-2"].creation.spec == b"spec"


def test_a_refused_placement_is_death_with_the_reason() -> None:
    table = table_with(creation())
    table.watched(OTHER, ID)
    assert states(table.placement_refused(ID, "all 64 worker processes are taken"), OTHER) == ["dead"]
    assert "all 64 worker processes are taken" in table.describe(ID).cause


@pytest.mark.parametrize("seed", range(30))
def test_random_lives_keep_the_invariants_and_end(seed: int) -> None:
    dice = random.Random(seed)
    table = ActorTable()
    clients = [OWNER, OTHER, b"third"]
    waiting: set[bytes] = set()
    running: dict[bytes, bytes] = {}  # worker -> actor
    killed: set[bytes] = set()
    dead_seen: set[bytes] = set()

    def perform(commands: list[Any]) -> None:
        for command in commands:
            if isinstance(command, Place):
                waiting.add(command.actor_id)
            elif isinstance(command, DropPlacement):
                waiting.discard(command.actor_id)
            elif isinstance(command, Kill):
                killed.add(command.worker_id)
            elif isinstance(command, Tell) and isinstance(command.message, ActorChanged):
                assert command.message.actor_id not in dead_seen or command.message.state == "dead"
                if command.message.state == "dead":
                    dead_seen.add(command.message.actor_id)
        table.check_invariants()

    for step in range(300):
        ids = list(table.actors)
        kind = dice.choice(
            ["create", "place", "ready", "fail", "exit", "gone", "kill", "leave", "die", "watch"]
        )
        client = dice.choice(clients)
        if kind == "create":
            name = dice.choice(["", "", "a", "b"])
            new = creation(
                b"a%d" % step,
                name=name,
                detached=dice.random() < 0.2,
                max_restarts=dice.choice([0, 0, 2, -1]),
            )
            perform(table.created(new, client)[1])
        elif kind == "place" and waiting:
            actor_id = dice.choice(sorted(waiting))
            waiting.discard(actor_id)
            worker = b"w%d" % step
            running[worker] = actor_id
            perform(table.placed(actor_id, worker, "address", step, ()))
        elif kind in ("ready", "fail", "exit") and running:
            worker = dice.choice(sorted(running))
            event = {"ready": table.ready, "fail": table.init_failed, "exit": table.exiting}[kind]
            arguments = {"ready": (), "fail": (b"error",), "exit": ("done",)}[kind]
            perform(event(worker, running[worker], *arguments))  # type: ignore[operator]
        elif kind == "die" and running:
            worker = dice.choice(sorted(killed & running.keys()) or sorted(running))
            del running[worker]
            perform(table.worker_died(worker, "it crashed"))
        elif ids and kind == "gone":
            perform(table.handles_gone(client, dice.choice(ids)))
        elif ids and kind == "kill":
            perform(table.kill_asked(dice.choice(ids), dice.random() < 0.5))
        elif ids and kind == "watch":
            perform(table.watched(client, dice.choice(ids)))
        elif kind == "leave" and dice.random() < 0.1:
            perform(table.client_gone(client, "driver 1"))
    for actor_id in list(table.actors):
        perform(table.kill_asked(actor_id, no_restart=True))
    for worker in list(running):
        perform(table.worker_died(worker, "killed"))
    assert all(actor.state == "dead" for actor in table.actors.values()), f"seed {seed}"
    assert not table.names, f"seed {seed}"


# ---------------------------------------------------------------------- arguments that come later
def test_an_actor_without_its_arguments_is_known_and_not_placed() -> None:
    table = ActorTable()
    assert table.created(creation(name="late", spec=b""), OWNER) == ("", [])
    assert table.describe(ID).state == "pending"
    assert table.created(creation(b"other", name="late"), OWNER)[0]
    commands = table.arguments(OWNER, ID, b"spec", b"")
    assert commands == [Place(ID, OWNER, creation(name="late"))]
    assert states(build(table), OTHER) == []


def test_arguments_count_once_and_from_the_owner_only() -> None:
    table = ActorTable()
    table.created(creation(spec=b""), OWNER)
    assert table.arguments(OTHER, ID, b"spec", b"") == []
    assert table.arguments(OWNER, ID, b"spec", b"")
    assert table.arguments(OWNER, ID, b"again", b"") == []
    build(table)
    assert table.arguments(OWNER, ID, b"again", b"") == []


def test_arguments_that_failed_end_the_actor() -> None:
    table = ActorTable()
    table.created(creation(spec=b""), OWNER)
    table.watched(OTHER, ID)
    assert states(table.arguments(OWNER, ID, b"", b"error"), OTHER) == ["dead"]
    assert table.describe(ID).error == b"error"
    table.check_invariants()


def test_an_actor_killed_before_its_arguments_came_stays_dead() -> None:
    table = ActorTable()
    table.created(creation(spec=b""), OWNER)
    table.kill_asked(ID, True)
    assert table.arguments(OWNER, ID, b"spec", b"") == []
    table.check_invariants()
