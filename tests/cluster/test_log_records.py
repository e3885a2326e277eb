"""Do the program's own log records carry who wrote them, in every process?"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.cluster

PROGRAM = """
import logging, sys
import minray as ray
from minray.job_config import JobConfig

ray.init(
    num_cpus=1, log_to_driver=False, job_config=JobConfig(ray_namespace="mine", runtime_env={"env_vars": {"A": "1"}}),
    logging_config=ray.LoggingConfig(encoding="JSON", log_level="INFO"),
)

@ray.remote
def work():
    import io, os
    stream = io.StringIO()
    handler = logging.getLogger().handlers[-1]
    handler.setStream(stream)
    logging.getLogger("mine").info("done %d", 3, extra={"shard": 5})
    return stream.getvalue(), os.environ["A"], ray.get_runtime_context().namespace

text, variable, namespace = ray.get(work.remote())
print(text.strip())
print(variable, namespace)
logging.getLogger("mine").info("from the driver")
"""


def test_records_are_json_with_task_and_worker(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    first, second = done.stdout.splitlines()
    record = json.loads(first)
    assert record["message"] == "done 3" and record["levelname"] == "INFO" and record["shard"] == 5
    assert record["task_name"] == "work" and len(record["task_id"]) == 48 and len(record["worker_id"]) == 32
    assert second == "1 mine"
    driver = json.loads(done.stderr.strip().splitlines()[-1])
    assert driver["message"] == "from the driver" and "task_id" not in driver
