"""Does the lease table keep its promises? Pretend clients, workers and time; no process starts."""

from __future__ import annotations

import random

import pytest
from world import BOTH, CPU, GPU, NOTHING, TWO_CPUS, World

from minray.base.resources import in_environment, shape_of

A, B, C = b"driver-a", b"driver-b", b"driver-c"


def test_grants_when_resources_and_an_idle_worker_are_there() -> None:
    world = World(CPU=2)
    world.client(A)
    world.demand(A, CPU, 3)
    assert len(world.ordered) == 2  # a third could not run
    world.connect()
    assert len(world.granted_to(A)) == 2
    assert world.available == {}
    assert not world.ordered


def test_worker_starts_are_ordered_only_while_they_are_useful() -> None:
    world = World(CPU=4)
    world.client(A)
    world.demand(A, CPU, 1)
    world.demand(A, CPU, 1)
    assert len(world.ordered) == 1
    world.demand(A, CPU, 3)
    assert len(world.ordered) == 3
    world.demand(A, CPU, 0)
    world.connect()
    assert not world.grants and len(world.table.pool.idle) == 3


def test_prestart_orders_workers_before_any_demand() -> None:
    world = World(CPU=2, prestart=2)
    world.table.prestart(world.now_s)
    world.settle()
    assert len(world.connect()) == 2
    world.client(A)
    world.demand(A, CPU, 1)
    assert world.grants and not world.ordered


def test_clients_of_one_shape_take_turns() -> None:
    world = World(CPU=4)
    world.client(A, B)
    world.demand(A, CPU, 10)
    world.demand(B, CPU, 10)
    world.connect()
    assert [name for name, _ in world.grants] == [A, B, A, B]


def test_shapes_take_turns() -> None:
    world = World(CPU=2, GPU=2)
    world.client(A)
    world.demand(A, CPU, 10)
    world.demand(A, BOTH, 10)
    world.connect()
    assert [grant.shape for _, grant in world.grants] == [CPU, BOTH]


def test_a_large_shape_does_not_starve_among_small_ones() -> None:
    world = World(CPU=2)
    world.client(A, B)
    world.demand(A, CPU, 2)
    world.connect()
    world.demand(B, TWO_CPUS, 1)
    for _ in range(20):  # A returns one lease at a time and wants it back at once
        world.pass_time(0.2)
        oldest = world.granted_to(A)[-2] if len(world.granted_to(A)) % 2 else world.granted_to(A)[-1]
        world.give(A, oldest.lease_id)
        world.demand(A, CPU, 1)
        if world.granted_to(B):
            break
        for grant in world.granted_to(A):
            if grant.lease_id in world.table.leases:
                world.give(A, grant.lease_id)
                world.demand(A, CPU, 2)
                break
    assert world.granted_to(B)


def test_a_reservation_for_what_an_actor_holds_stops_nobody() -> None:
    world = World(CPU=1, GPU=1)
    world.client(A)
    world.place(A, b"trainer", BOTH, held=GPU)
    world.connect()
    world.table.actor_settled(b"trainer")
    world.place(A, b"second", BOTH, held=GPU)
    world.pass_time(3.0)
    world.demand(A, CPU, 1)
    world.connect()
    assert len(world.granted_to(A)) == 1


def test_a_reservation_ends_after_a_while() -> None:
    world = World(CPU=2)
    world.client(A, B, C)
    world.demand(A, CPU, 1)
    world.connect()
    world.demand(B, TWO_CPUS, 1)  # waits for A's task, which itself polls for what C starts
    world.pass_time(1.0)
    world.demand(C, CPU, 1)
    world.connect()
    assert not world.granted_to(C)
    world.pass_time(6.0)
    world.connect()
    assert world.granted_to(C)


def test_blocked_tasks_lend_their_cpu_and_nothing_else() -> None:
    shape = shape_of({"CPU": 1, "GPU": 1, "memory": 100, "special": 1})
    world = World(CPU=1, GPU=1, memory=1000, special=1)
    world.client(A)
    world.demand(A, shape, 1)
    world.connect()
    worker = world.grants[0][1].worker_id
    world.block(worker)
    assert world.available == {"CPU": 1.0, "memory": 900.0}
    world.block(worker)
    assert world.available["CPU"] == 1.0
    world.unblock(worker)
    assert world.available == {"memory": 900.0}


def test_unblocked_tasks_may_over_subscribe_and_available_never_shows_less_than_nothing() -> None:
    world = World(CPU=1)
    world.client(A, B)
    world.demand(A, CPU, 1)
    world.connect()
    first = world.grants[0][1]
    world.block(first.worker_id)
    world.demand(B, CPU, 2)
    world.connect()
    assert len(world.granted_to(B)) == 1
    world.unblock(first.worker_id)
    assert world.available == {}
    world.give(A, first.lease_id)
    assert len(world.granted_to(B)) == 1  # still over-subscribed until B returns one
    world.give(B, world.granted_to(B)[0].lease_id)
    assert len(world.granted_to(B)) == 2


def test_two_hundred_nested_blocking_tasks_each_get_a_worker() -> None:
    world = World(CPU=1, max_workers=256)
    world.client(A)
    client = A
    for _ in range(200):
        world.demand(client, CPU, 1)
        world.connect()
        client = world.granted_to(client)[0].worker_id
        world.block(client)
    assert len(world.table.leases) == 200
    for lease in list(world.table.leases.values()):
        world.give(lease.client_id, lease.lease_id)
    assert world.available == {"CPU": 1.0}


def test_beyond_the_workers_that_memory_allows_demand_is_refused_with_the_reason() -> None:
    world = World(CPU=1, max_workers=3)
    world.client(A)
    client = A
    for _ in range(3):
        world.demand(client, CPU, 1)
        world.connect()
        client = world.granted_to(client)[0].worker_id
        world.block(client)
    world.demand(client, CPU, 1)
    assert not world.ordered
    world.pass_time(1.9)
    assert not world.stuck
    world.pass_time(0.2)
    ((who, message),) = world.stuck
    assert who == client and message.refused and not message.infeasible
    assert "3 hold a task that waits in get" in message.reason
    assert not world.table.demand


def test_when_memory_gets_short_recursion_goes_deep_before_it_goes_wide() -> None:
    world = World(CPU=1, max_workers=6)
    world.client(A)
    world.demand(A, CPU, 10)
    parents = []
    for _ in range(3):  # three tasks of the driver block, each on children of its own
        world.connect()
        parents.append(world.granted_to(A)[-1].worker_id)
        world.block(parents[-1])
    world.connect()
    for parent in parents:
        world.demand(parent, CPU, 2)
    last = world.granted_to(A)[-1]  # a fourth one runs; when it ends, whose turn is it?
    world.give(A, last.lease_id)
    assert [len(world.granted_to(parent)) for parent in parents] == [0, 0, 1]


def test_a_full_pool_with_a_running_task_is_not_refused() -> None:
    world = World(CPU=2, max_workers=2)
    world.client(A)
    world.demand(A, CPU, 3)
    world.connect()
    world.block(world.grants[0][1].worker_id)
    world.pass_time(10.0)
    assert not world.stuck
    world.give(A, world.grants[1][1].lease_id)
    assert len(world.grants) == 3


def test_an_infeasible_demand_is_reported_once_with_what_is_missing() -> None:
    world = World(CPU=2, memory=4e9)
    world.client(A)
    world.demand(A, BOTH, 1)
    world.pass_time(1.9)
    assert not world.stuck
    world.pass_time(100.0)
    ((_, message),) = world.stuck
    assert message.infeasible and message.reason == "needs GPU: 1; this node has CPU: 2, memory: 4 GB"
    assert world.table.next_deadline_s() is None  # and the node sleeps


def test_resources_held_by_actors_are_reported_with_their_holders() -> None:
    world = World(CPU=2, GPU=1)
    world.client(A)
    world.place(A, b"trainer", BOTH, held=GPU)
    world.connect()
    world.table.actor_settled(b"trainer")
    world.demand(A, GPU, 1)
    world.pass_time(3.0)
    ((_, message),) = world.stuck
    assert not message.infeasible and not message.refused
    assert (
        message.reason == "needs GPU: 1; only GPU: 0 can become free: actor Counter (pid 1000) holds GPU: 1"
    )
    world.pass_time(60.0)
    assert len(world.stuck) == 1  # the same reason is not repeated
    world.die(world.placed[0].worker_id)
    world.connect()
    assert len(world.grants) == 1


def test_queueing_behind_running_tasks_is_not_reported() -> None:
    world = World(CPU=1)
    world.client(A, B)
    world.demand(A, CPU, 5)
    world.connect()
    world.demand(B, CPU, 5)
    world.pass_time(30.0)
    assert not world.stuck


def test_hunger_is_told_to_those_whose_leases_would_help_and_taken_back() -> None:
    world = World(CPU=1, GPU=1)
    world.client(A, B, C)
    world.demand(A, CPU, 1)
    world.demand(C, GPU, 1)
    world.connect()
    assert world.hungry == {}
    world.demand(A, CPU, 5)  # its own queue of the same shape is no reason to return a lease
    assert world.hungry == {}
    world.demand(B, CPU, 1)
    assert world.hungry == {A: True}  # C's GPU lease would not help
    world.give(A, world.granted_to(A)[0].lease_id)
    assert len(world.granted_to(B)) == 1  # A had its turn, although it asked before B
    assert world.hungry == {A: False, B: True}


def test_hunger_turns_to_another_shape_of_the_same_client() -> None:
    world = World(CPU=2)
    world.client(A)
    world.demand(A, CPU, 2)
    world.connect()
    world.demand(A, TWO_CPUS, 1)
    assert world.hungry == {A: True}


def test_an_infeasible_demand_makes_nobody_hungry() -> None:
    world = World(CPU=1)
    world.client(A, B)
    world.demand(A, CPU, 1)
    world.connect()
    world.demand(B, BOTH, 1)
    assert world.hungry == {}


def test_a_dead_clients_leases_are_revoked_by_killing_their_workers() -> None:
    world = World(CPU=2)
    world.client(A, B)
    world.demand(A, CPU, 2)
    world.connect()
    world.demand(B, CPU, 1)
    world.table.client_gone(A, "driver 7", world.now_s)
    world.settle()
    assert [reason for _, reason in world.doomed] == ["its owner, driver 7, ended"] * 2
    assert world.available == {}  # until they are really gone
    for worker_id, _ in world.doomed:
        world.die(worker_id)
    world.connect()
    assert world.granted_to(B) and world.available == {"CPU": 1.0}


def test_a_dead_worker_returns_what_it_held_lent_or_not() -> None:
    world = World(CPU=2)
    world.client(A)
    world.demand(A, CPU, 2)
    world.connect()
    first, second = (grant.worker_id for _, grant in world.grants)
    world.block(first)
    world.die(first)
    world.die(second)
    assert world.available == {"CPU": 2.0}


def test_a_dead_workers_own_leases_go_with_it() -> None:
    world = World(CPU=2)
    world.client(A)
    world.demand(A, CPU, 1)
    world.connect()
    parent = world.grants[0][1].worker_id
    world.demand(parent, CPU, 1)
    world.connect()
    child = world.granted_to(parent)[0].worker_id
    world.die(parent)
    assert [worker for worker, _ in world.doomed] == [child]


def test_a_broken_lease_kills_the_worker() -> None:
    world = World(CPU=1)
    world.client(A)
    world.demand(A, CPU, 1)
    world.connect()
    grant = world.grants[0][1]
    world.give(A, grant.lease_id, broken=True)
    assert world.doomed == [(grant.worker_id, "its owner gave it up")]


def test_a_worker_that_has_done_its_share_is_lent_to_nobody_and_not_killed() -> None:
    world = World(CPU=1)
    world.client(A)
    world.demand(A, CPU, 1)
    world.connect()
    first = world.grants[0][1]
    world.give(A, first.lease_id, retired=True)
    assert world.available == {"CPU": 1.0} and not world.doomed
    world.demand(A, CPU, 1)
    world.connect()
    second = world.grants[-1][1]
    assert second.worker_id != first.worker_id
    world.die(first.worker_id, "process 1 exited with code 0")
    assert world.available == {}


def test_a_lease_returned_twice_or_by_a_stranger_changes_nothing() -> None:
    world = World(CPU=1)
    world.client(A, B)
    world.demand(A, CPU, 1)
    world.connect()
    lease_id = world.grants[0][1].lease_id
    world.give(B, lease_id)
    assert world.available == {}
    world.give(A, lease_id)
    world.give(A, lease_id)
    assert world.available == {"CPU": 1.0}


def test_the_worker_used_last_is_leased_first() -> None:
    world = World(CPU=2)
    world.client(A)
    world.demand(A, CPU, 2)
    world.connect()
    first, second = (grant for _, grant in world.grants)
    world.give(A, first.lease_id)
    world.give(A, second.lease_id)
    world.demand(A, CPU, 1)
    assert world.grants[-1][1].worker_id == second.worker_id


def test_actors_keep_only_what_they_hold_once_they_are_built() -> None:
    world = World(CPU=1, GPU=2)
    world.client(A)
    world.place(A, b"one", shape_of({"CPU": 1, "GPU": 1}), held=GPU)
    world.place(A, b"two", shape_of({"CPU": 1, "GPU": 1}), held=GPU)
    world.connect()
    assert [placed.gpu_ids for placed in world.placed] == [(0,)]
    world.table.actor_settled(b"one")
    world.settle()
    world.connect()
    assert [placed.gpu_ids for placed in world.placed] == [(0,), (1,)]
    world.table.actor_settled(b"two")
    world.settle()
    assert world.available == {"CPU": 1.0}
    world.die(world.placed[0].worker_id)
    assert world.available == {"CPU": 1.0, "GPU": 1.0}


def test_an_actor_blocked_in_its_constructor_lends_its_cpu_until_it_settles() -> None:
    world = World(CPU=1)
    world.client(A)
    world.place(A, b"one", CPU)
    world.connect()
    world.block(world.placed[0].worker_id)
    assert world.available == {"CPU": 1.0}
    world.table.actor_settled(b"one")
    world.settle()
    world.unblock(world.placed[0].worker_id)
    assert world.available == {"CPU": 1.0}


def test_workers_are_started_ahead_while_actors_are_built_one_after_the_other() -> None:
    world = World(CPU=1)
    world.client(A)
    for number in range(5):
        world.place(A, b"actor-%d" % number, CPU)
    assert len(world.ordered) == 1
    world.connect()
    assert len(world.ordered) == 4


def test_a_dropped_placement_is_never_placed() -> None:
    world = World(CPU=1)
    world.client(A)
    world.place(A, b"one", CPU)
    world.table.placement_dropped(b"one")
    world.table.placement_dropped(b"one")
    world.settle()
    world.connect()
    assert not world.placed and not world.table.demand


def test_actors_that_cannot_get_a_process_are_refused() -> None:
    world = World(CPU=1, max_workers=2)
    world.client(A)
    for number in range(3):
        world.place(A, b"actor-%d" % number, CPU)
        world.connect()
        world.table.actor_settled(b"actor-%d" % number)
        world.settle()
    world.pass_time(3.0)
    assert [refused.actor_id for refused in world.refused] == [b"actor-2"]
    assert "2 an actor" in world.refused[0].reason


def test_requests_for_nothing_are_bounded_by_the_start_burst() -> None:
    world = World(CPU=2)
    world.client(A)
    world.demand(A, NOTHING, 1000)
    assert len(world.ordered) == 8


def test_workers_that_die_while_starting_are_retried_slowly_and_then_refused() -> None:
    world = World(CPU=1)
    world.client(A)
    world.demand(A, CPU, 1)
    for _ in range(3):
        world.die(world.ordered[0], "exit code 1: no module named x")
    assert not world.ordered  # a pause, not a hot loop
    for _ in range(3):
        world.pass_time(1.1)
        for worker_id in list(world.ordered):
            world.die(worker_id, "exit code 1: no module named x")
    world.pass_time(2.0)
    assert world.stuck[0][1].refused and "no module named x" in world.stuck[0][1].reason


def test_the_workers_that_one_death_of_the_zygote_prevents_are_one_failure() -> None:
    world = World(CPU=8)
    world.client(A)
    world.demand(A, CPU, 8)
    for count, worker_id in enumerate(list(world.ordered)):
        world.die(worker_id, "the zygote died", one_of_many=count > 0)
    assert len(world.ordered) == 8 and not world.stuck  # ordered again, of the next zygote


def test_idle_workers_are_asked_to_retire_and_may_refuse() -> None:
    world = World(CPU=2, prestart=2)
    world.table.prestart(world.now_s)
    world.settle()
    first, second = world.connect()
    world.pass_time(59.0)
    assert not world.retired
    world.pass_time(2.0)
    assert set(world.retired) == {first, second}
    world.table.retire_refused(first, world.now_s)
    world.die(second)
    assert world.table.next_deadline_s() is not None
    world.client(A)
    world.demand(A, CPU, 1)
    assert world.grants[0][1].worker_id == first


def test_a_retiring_worker_that_says_nothing_counts_as_idle_again() -> None:
    world = World(CPU=1, prestart=1)
    world.table.prestart(world.now_s)
    world.settle()
    world.connect()
    world.pass_time(60.0)
    world.client(A)
    world.demand(A, CPU, 1)
    assert world.retired and not world.grants and world.ordered
    world.pass_time(5.0)
    assert world.grants


def test_an_idle_node_has_no_deadline() -> None:
    world = World(CPU=2)
    world.client(A)
    assert world.table.next_deadline_s() is None
    world.demand(A, CPU, 2)
    world.connect()
    assert world.table.next_deadline_s() is None


@pytest.mark.parametrize("seed", range(40))
def test_random_schedules_keep_the_invariants_and_lose_nothing(seed: int) -> None:
    """Everything at once; at the end all is returned, and all is there again."""
    dice = random.Random(seed)
    world = World(CPU=3, GPU=2, special=1, max_workers=12, idle_worker_s=5.0)
    shapes = [CPU, TWO_CPUS, GPU, BOTH, NOTHING, shape_of({"GPU": 0.5}), shape_of({"CPU": 0.5, "special": 1})]
    drivers = [A, B, C]
    world.client(*drivers)
    actors: list[bytes] = []
    for step in range(300):
        everybody = [client for client in world.table.clients]
        workers = list(world.table.pool.workers)
        leases = list(world.table.leases.values())
        dead = [worker_id for worker_id, _ in world.doomed if worker_id in world.table.pool.workers]
        kind = dice.choices(
            [
                "demand",
                "give",
                "connect",
                "block",
                "unblock",
                "die",
                "place",
                "settle",
                "time",
                "reap",
                "leave",
                "drop",
            ],
            [10, 12, 10, 6, 6, 1, 3, 4, 4, 4, 0.3, 1],
        )[0]
        if kind == "demand" and everybody:
            world.demand(dice.choice(everybody), dice.choice(shapes), dice.randrange(4))
        elif kind == "give" and leases:
            lease = dice.choice(leases)
            world.give(lease.client_id, lease.lease_id, broken=dice.random() < 0.1)
        elif kind == "connect" and world.ordered:
            world.connect(dice.randint(1, 3))
        elif kind == "block" and workers:
            world.block(dice.choice(workers))
        elif kind == "unblock" and workers:
            world.unblock(dice.choice(workers))
        elif kind == "die" and workers:
            world.die(dice.choice(workers))
        elif kind == "reap" and dead:
            world.die(dice.choice(dead))
        elif kind == "place" and everybody:
            actors.append(b"actor-%d" % step)
            placement = dice.choice(shapes)
            world.place(dice.choice(everybody), actors[-1], placement, held=dice.choice([placement, ()]))
        elif kind == "settle" and actors:
            world.table.actor_settled(dice.choice(actors))
        elif kind == "drop" and actors:
            world.table.placement_dropped(dice.choice(actors))
        elif kind == "leave":
            place = dice.randrange(len(drivers))
            world.table.client_gone(drivers[place], "driver 1", world.now_s)
            drivers[place] = b"driver-%d" % step
            world.client(drivers[place])
        else:
            world.pass_time(dice.choice([0.01, 0.6, 3.0]))
        world.settle()
        assert len(world.table.pool) <= 12, f"seed {seed}"
        granted = [grant.lease_id for _, grant in world.grants]
        assert len(granted) == len(set(granted)), f"seed {seed}"
    for client in list(world.table.clients):
        world.table.client_gone(client, "it", world.now_s)
    for actor in actors:
        world.table.placement_dropped(actor)
    world.settle()
    assert not world.table.demand
    for worker_id in list(world.table.pool.workers):
        world.die(worker_id)
    assert world.available == {"CPU": 3.0, "GPU": 2.0, "special": 1.0}, f"seed {seed}"
    assert world.table.next_deadline_s() is None


# --------------------------------------------------------------------------------- environments
def in_env(key: str) -> tuple:
    return in_environment(CPU, key)


def test_a_worker_serves_one_environment_for_life() -> None:
    world = World(CPU=2)
    world.client(A)
    world.demand(A, in_env("e1"), 1)
    world.connect()
    (grant,) = world.granted_to(A)
    world.give(A, grant.lease_id)
    world.demand(A, CPU, 1)
    assert len(world.granted_to(A)) == 1 and len(world.ordered) == 1  # the idle one will not do
    world.connect()
    plain = world.granted_to(A)[-1]
    assert plain.worker_id != grant.worker_id
    world.demand(A, in_env("e1"), 1)
    assert world.granted_to(A)[-1].worker_id == grant.worker_id and not world.ordered


def test_a_fresh_worker_serves_whoever_comes_first() -> None:
    world = World(CPU=2, prestart=2)
    world.table.prestart(world.now_s)
    world.settle()
    world.connect()
    world.client(A)
    world.demand(A, in_env("e1"), 1)
    world.demand(A, in_env("e2"), 1)
    assert len(world.granted_to(A)) == 2 and not world.ordered


def test_an_idle_worker_of_another_environment_makes_room_when_memory_allows_no_more() -> None:
    world = World(CPU=1, max_workers=1)
    world.client(A)
    world.demand(A, in_env("e1"), 1)
    (worker_id,) = world.connect()
    world.give(A, world.granted_to(A)[0].lease_id)
    world.demand(A, CPU, 1)
    assert world.retired == [worker_id] and not world.ordered
    world.table.worker_died(worker_id, "retired", world.now_s)
    world.settle()
    assert len(world.connect()) == 1 and len(world.granted_to(A)) == 2


def test_an_environment_is_no_resource_in_sentences() -> None:
    world = World(CPU=1)
    world.client(A)
    world.demand(A, in_environment(shape_of({"CPU": 4}), "e1"), 1)
    world.pass_time(3)
    (told,) = [found.reason for _, found in world.stuck]
    assert "env:" not in told and "CPU: 4" in told
