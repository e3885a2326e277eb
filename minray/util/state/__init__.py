"""What runs, what waits, what is stored, who failed? Ray's state API: `ray.util.state`.

    from minray.util.state import list_tasks, summarize_tasks
    list_tasks(filters=[("state", "=", "RUNNING")])

From the driver, from a task, or from another process (`address=`). Rows read like objects and like
mappings, with Ray's column names; see `minray.state_api.schema`.
"""

from __future__ import annotations

import sys

from minray.state_api import errors as exception
from minray.state_api import schema
from minray.state_api.client import StateApiClient
from minray.state_api.errors import RayStateApiException, ServerUnavailable
from minray.util.state import api
from minray.util.state.api import (
    get_actor,
    get_job,
    get_log,
    get_node,
    get_objects,
    get_placement_group,
    get_task,
    get_worker,
    list_actors,
    list_cluster_events,
    list_jobs,
    list_logs,
    list_nodes,
    list_objects,
    list_placement_groups,
    list_runtime_envs,
    list_tasks,
    list_workers,
    summarize_actors,
    summarize_objects,
    summarize_tasks,
)

# Ray's names for these modules: `from ray.util.state.common import TaskState` is in many programs.
common = schema
sys.modules[f"{__name__}.common"] = schema
sys.modules[f"{__name__}.exception"] = exception

__all__ = [
    "RayStateApiException",
    "ServerUnavailable",
    "StateApiClient",
    "api",
    "common",
    "exception",
    "get_actor",
    "get_job",
    "get_log",
    "get_node",
    "get_objects",
    "get_placement_group",
    "get_task",
    "get_worker",
    "list_actors",
    "list_cluster_events",
    "list_jobs",
    "list_logs",
    "list_nodes",
    "list_objects",
    "list_placement_groups",
    "list_runtime_envs",
    "list_tasks",
    "list_workers",
    "summarize_actors",
    "summarize_objects",
    "summarize_tasks",
]
