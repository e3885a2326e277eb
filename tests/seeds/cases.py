"""Which block of which seed runs now, with what supplied and what claimed, and which wait for what?

A block is named by its document and the line of its opening fence. `CASES` run as written, in a
program of their own: `supplies`, the blocks in `before`, the block, `claims`. `LATER` names the
subsystem that a block waits for. `NOT_CODE` holds what is no program: shell lines, drawings, output.
"""

from __future__ import annotations

from dataclasses import dataclass, field

FUNDAMENTALS = "000_df21a7addb994350.txt"
SKILL = "001_7f3c0f30c91fbee7.txt"
LECTURE = "002_72b760a89513cb93.txt"
HOWTO = "003_cff989423302c63a.txt"
ANYSCALE = "004_fc3b297d1b3dc1e7.txt"


@dataclass(frozen=True)
class Case:
    """One block, run as written."""

    document: str
    line: int
    claims: str
    supplies: str = ""  # what the block names but does not define
    before: tuple[int, ...] = ()  # earlier blocks of the same document that it continues
    cpus: int = 2
    gpus: int = 0
    resources: dict[str, float] = field(default_factory=dict)
    stand_ins: bool = False  # transformers, torch.cuda
    needs: tuple[str, ...] = ()  # packages that the block imports, beside Ray
    memory_bytes: int = 0  # what its tasks ask for, so that a small machine skips it loudly
    printed: tuple[str, ...] = ()  # lines that its workers print, in this order

    @property
    def name(self) -> str:
        return f"{self.document[:3]}-line-{self.line}"


GB = 1 << 30
RAY = "import ray"

CASES = (
    # ------------------------------------------------------------------ 000: Ray Deep Dive
    Case(
        FUNDAMENTALS,
        17,
        gpus=1,
        needs=("numpy",),
        claims="""
assert results == [i * i for i in range(10)]
assert values == [1, 2, 3, 4, 5]
assert ray.get(counter.get_value.remote()) == 5
assert ray.get(gpu_compute.remote([1, 2, 3])).tolist() == [1, 4, 9]
""",
    ),
    Case(
        FUNDAMENTALS,
        63,
        needs=("numpy",),
        claims="""
assert mean_value == array.mean()
assert not array.flags.writeable
""",
    ),
    Case(
        FUNDAMENTALS,
        88,
        supplies="import time",
        needs=("numpy",),
        claims="""
assert map_reduce_example([np.arange(5), np.arange(3), np.ones(4)]) == 17
assert pipeline_example() == "Stage 2: Stage 1: Stage 0: input"
pool = WorkerPool.remote(2)
refs = ray.get([pool.submit_task.remote(name) for name in "abc"])
assert ray.get(pool.get_results.remote(refs)) == [
    "Processed task a (total: 1)", "Processed task b (total: 1)", "Processed task c (total: 2)"
]
""",
    ),
    Case(
        FUNDAMENTALS,
        166,
        supplies="import numpy as np",
        needs=("numpy",),
        gpus=1,
        resources={"custom_resource": 1},
        memory_bytes=GB,
        claims="""
assert ray.get(resource_intensive_task.remote([2, 3])).tolist() == [4, 9]
assert ray.get(custom_resource_task.remote()) == "Custom resource task completed"
assert ray.get(ResourceAwareActor.remote("n1").get_node_info.remote()) == "Running on node: n1"
total, available = monitor_resources()
assert total["CPU"] == 2 and total["GPU"] == 1 and total["custom_resource"] == 1
assert available.get("CPU", 0) <= total["CPU"]
""",
    ),
    Case(
        FUNDAMENTALS,
        545,  # production_deployment() itself waits for Train and Serve: see LATER_PARTS
        needs=("yaml",),
        claims="""
import os, tempfile
with tempfile.NamedTemporaryFile("w", suffix=".yaml", delete=False) as file:
    file.write("head_node_address: local\\nredis_password: secret\\n")
manager = RayClusterManager(file.name)
manager.start_cluster()
state = manager.monitor_cluster()
assert state["node_count"] == 1
assert state["cluster_resources"]["CPU"] == 2
assert state["available_resources"]["CPU"] == 2
assert manager.scale_cluster(3) is None
assert kubernetes_deployment()["provider"]["namespace"] == "ray"
os.unlink(file.name)
""",
    ),
    # ------------------------------------------------------------------ 001: a skill's page
    Case(
        SKILL,
        40,
        cpus=10,
        gpus=1,
        stand_ins=True,
        claims="""
assert results == [i * i for i in range(10)]
assert ray.get(train_on_gpu.remote([1.0, 2.0])) == 3.0
""",
    ),
    Case(
        SKILL,
        68,
        stand_ins=True,
        claims="""
assert len(results) == 30
assert [r["label"] for r in results[:3]] == ["POSITIVE", "NEGATIVE", "POSITIVE"]
assert ray.get([s.get_stats.remote() for s in servers]) == [{"requests": 10}] * 3
""",
    ),
    # ------------------------------------------------------------------ 002: a lecture
    Case(
        LECTURE,
        152,
        gpus=1,
        stand_ins=True,
        memory_bytes=GB,
        claims="""
assert results == [sum(range(1000000))] * 4
assert value == 10
assert ray.get(gpu_task.remote([1, 2, 3])) == 6
""",
    ),
    Case(
        LECTURE,
        217,
        supplies=RAY,
        claims="""
assert current == 2
assert results == [f"Worker {i} completed" for i in range(4)]
weights = ray.get(ps.get_weights.remote(["layer1", "layer2", "other"]))
assert abs(weights["layer1"] + 4 * 0.01 * 0.1) < 1e-12 and abs(weights["layer2"] + 4 * 0.01 * 0.2) < 1e-12
assert weights["other"] is None
import os, pickle, tempfile
path = os.path.join(tempfile.mkdtemp(), "weights")
assert ray.get(ps.save_checkpoint.remote(path))
assert pickle.load(open(path, "rb"))["layer1"] == weights["layer1"]
ray.get(counter.reset.remote())
assert ray.get(counter.get_count.remote()) == 0
""",
    ),
    Case(
        LECTURE,
        311,
        supplies=RAY + "\ndef process(data):\n    return data.shape",
        needs=("numpy",),
        memory_bytes=4 * GB,  # an array of 800 MB, in the making and in the store
        claims="""
assert len(results) == 10 and all(abs(r - large_array.sum()) < 1e-6 for r in results)
assert ray.get(tasks) == [(10000, 10000)] * 10
""",
    ),
    Case(
        LECTURE,
        939,
        supplies=RAY,
        gpus=1,
        memory_bytes=2 * GB,
        claims="""
assert ray.cluster_resources()["TPU"] == 8
assert ray.get(tpu_task.remote()) is None
assert ray.get([light_gpu_task.remote() for _ in range(4)]) == [None] * 4
assert ray.get(memory_intensive_task.remote()) is None
""",
    ),
    Case(
        LECTURE,
        993,
        supplies="""
import ray
seen = []
def load_entire_dataset(): return list(range(6))
def stream_dataset_chunks(): yield from ([0, 1], [2, 3], [4, 5])
def process(chunk): print("chunk", chunk)
""",
        claims="""
assert ray.get(process_large_dataset.remote()) is None
""",
        printed=("chunk [0, 1]", "chunk [2, 3]", "chunk [4, 5]"),
    ),
    Case(
        LECTURE,
        1009,
        supplies="""
import ray
@ray.remote
def tiny_task(i): return i
def tiny_operation(i): return 2 * i
""",
        claims="""
assert len(results) == 1000
done = ray.get(results)
assert done[0][:3] == [0, 2, 4] and done[-1][-1] == 2 * 999_999
assert sum(map(len, done)) == 1_000_000
""",
    ),
    Case(
        LECTURE,
        960,
        supplies="import logging",
        claims="""
assert len(nodes) == 1 and nodes[0].node_id == ray.get_runtime_context().get_node_id()
assert 0 <= nodes[0].cpu_usage and 0 < nodes[0].memory_usage and nodes[0]["gpu_usage"] is None
assert list(actors) == [] and list(tasks) == []
""",
    ),
    # ------------------------------------------------------------------ 003: a how-to
    Case(
        HOWTO,
        47,
        # Its ten seconds without Ray are slept in the driver; the workers' seconds are real.
        supplies="import time\ntime.sleep = lambda seconds: None",
        cpus=10,
        claims="""
assert results == [i * i for i in range(10)]
assert not ray.is_initialized()
""",
    ),
    Case(
        HOWTO,
        82,
        cpus=4,
        gpus=1,
        stand_ins=True,
        memory_bytes=4 * GB,
        claims="""
assert ray.get([cpu_future, gpu_future]) == [15, "result"]
assert ray.get(memory_task.remote([1, 2, 3])) == 3
""",
    ),
    Case(
        HOWTO,
        120,
        claims="""
assert results == list(range(1, 11))
assert final_count == 10
""",
    ),
    Case(
        HOWTO,
        482,
        gpus=1,
        claims="""
assert len(ray.nodes()) == 1
assert ray.nodes()[0]["Resources"]["CPU"] == 2 and ray.nodes()[0]["Resources"]["GPU"] == 1
""",
    ),
    # ------------------------------------------------------------------ 004: Ray Anyscale
    Case(ANYSCALE, 42, claims='assert result == "Done!"'),
    Case(
        ANYSCALE,
        77,
        claims="""
assert ray.get(counter.increment.remote()) == 3
assert ray.get(stateless_increment.remote(0)) == 1
""",
    ),
    Case(ANYSCALE, 134, claims="assert result == 5"),
    Case(
        ANYSCALE, 163, supplies=RAY, gpus=1, claims="assert ray.get(resource_intensive_task.remote()) is None"
    ),
    Case(
        ANYSCALE,
        177,
        supplies="import ray\n@ray.remote\ndef my_task(a, b): return a * b",
        claims="assert results == [i * i for i in range(100)]",
    ),
    Case(ANYSCALE, 234, claims='assert "done: 3" in ray.get(alex.do_task.remote())'),
    Case(ANYSCALE, 256, before=(234,), claims='assert "done: 5" in ray.get(alex.do_task.remote())'),
    Case(
        ANYSCALE,
        268,
        before=(234,),
        claims="""
assert ray.get([alex_task, bob_task]) == ["Completed task. Total tasks done: 1"] * 2
""",
    ),
    Case(
        ANYSCALE,
        290,
        claims='assert ray.get([sandwich_order, salad_order]) == ["Sandwich ready!", "Salad ready!"]',
        # What the document shows at line 324.
        printed=(
            "Starting to make a sandwich",
            "Finished making a sandwich",
            "Starting to make a salad",
            "Finished making a salad",
        ),
    ),
    Case(
        ANYSCALE,
        347,
        claims="""
counter = Counter.remote()
assert ray.get([counter.increment.remote(), counter.get_value.remote()]) == [1, 1]
""",
    ),
    Case(ANYSCALE, 368, before=(347,), claims="assert ray.get(counter.get_value.remote()) == 0"),
    Case(ANYSCALE, 373, before=(347, 368), claims="assert value == 1"),
    Case(ANYSCALE, 383, before=(347, 368, 373), claims="assert ray.get(counter.get_value.remote()) == 3"),
    Case(
        ANYSCALE,
        394,
        before=(347,),
        claims="assert ray.get([counter1.get_value.remote(), counter2.get_value.remote()]) == [1, 1]",
    ),
    Case(ANYSCALE, 404, before=(347, 368), claims="assert result == 1"),
    Case(
        ANYSCALE,
        416,
        supplies=RAY,
        gpus=1,
        claims="""
heavy = ResourceHeavyActor.remote()
assert ray.get(heavy.__ray_ready__.remote())
assert ray.available_resources().get("GPU", 0) == 0
""",
    ),
    Case(
        ANYSCALE,
        425,
        before=(347,),
        claims="""
again = ray.get_actor("my_counter")
assert ray.get(again.increment.remote()) == 1
ray.kill(again)
""",
    ),
    Case(
        ANYSCALE,
        432,
        supplies=RAY,
        claims="""
actor = AsyncActor.remote()
assert ray.get([actor.async_method.remote() for _ in range(3)]) == [None] * 3
""",
    ),
    Case(
        ANYSCALE,
        443,
        before=(347,),
        claims="""
assert list(pool.map(lambda a, _: a.increment.remote(), range(8))) == [1, 1, 1, 1, 2, 2, 2, 2]
""",
    ),
)

DATA, TRAIN, TUNE, SERVE = "minray.data", "minray.train", "minray.tune", "minray.serve"
CLUSTER_FILE = "cluster files (minray up)"

# What a block waits for. A block leaves this table only into CASES.
LATER: dict[tuple[str, int], str] = {
    (FUNDAMENTALS, 208): TRAIN,
    (FUNDAMENTALS, 284): f"{TRAIN}, {TUNE}",
    (FUNDAMENTALS, 327): SERVE,
    (FUNDAMENTALS, 432): TUNE,
    (SKILL, 97): SERVE,
    (SKILL, 118): SERVE,
    (SKILL, 127): SERVE,
    (SKILL, 165): TUNE,
    (SKILL, 212): DATA,
    (SKILL, 236): CLUSTER_FILE,
    (LECTURE, 40): TRAIN,
    (LECTURE, 366): TRAIN,
    (LECTURE, 614): TRAIN,
    (LECTURE, 668): TUNE,
    (LECTURE, 766): f"{TRAIN}, {TUNE}",
    (LECTURE, 812): f"{DATA}, {TRAIN}",
    (LECTURE, 857): CLUSTER_FILE,
    (LECTURE, 915): "minray.job_submission",
    (HOWTO, 154): DATA,
    (HOWTO, 191): TUNE,
    (HOWTO, 257): SERVE,
    (HOWTO, 314): TRAIN,
    (HOWTO, 380): "many machines (minray start)",
    (HOWTO, 393): "many machines (init with an address)",
    (HOWTO, 409): CLUSTER_FILE,
}

# Blocks that run now but for a part.
LATER_PARTS: dict[tuple[str, int], str] = {
    (FUNDAMENTALS, 545): f"production_deployment(): {TRAIN}, {SERVE}, dashboard",
}

NOT_CODE: dict[tuple[str, int], str] = {
    (SKILL, 28): "installs Ray",
    (LECTURE, 80): "a drawing",
    (HOWTO, 29): "installs Ray",
    (HOWTO, 463): "kubectl",
    (ANYSCALE, 324): "the output of the block at line 290, whose test holds it",
}
