"""minray: Ray made small enough to see through.

`import minray as ray` and a program written for Ray runs on this machine. Names are loaded when first
used, so that the import itself costs a few milliseconds.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"
__commit__ = ""

_HOMES = {
    "init": "minray.api.init",
    "shutdown": "minray.api.init",
    "is_initialized": "minray.api.init",
    "remote": "minray.api.objects",
    "get": "minray.api.objects",
    "put": "minray.api.objects",
    "wait": "minray.api.objects",
    "cancel": "minray.api.objects",
    "method": "minray.api.actor_class",
    "get_actor": "minray.api.actor_class",
    "kill": "minray.api.actor_class",
    "ActorHandle": "minray.api.actor_class",
    "ActorClass": "minray.api.actor_class",
    "ObjectRef": "minray.worker.object_ref",
    "ObjectRefGenerator": "minray.worker.generators",
    "DynamicObjectRefGenerator": "minray.worker.generators",
    "get_runtime_context": "minray.api.context",
    "nodes": "minray.api.context",
    "cluster_resources": "minray.api.context",
    "available_resources": "minray.api.context",
    "get_gpu_ids": "minray.api.context",
    "timeline": "minray.api.context",
    "record": "minray.api.record",
    "load_run": "minray.recording.run",
    "show": "minray.widgets",
    "ActorID": "minray.base.ids",
    "NodeID": "minray.base.ids",
    "WorkerID": "minray.base.ids",
    "TaskID": "minray.base.ids",
    "JobID": "minray.base.ids",
    "UniqueID": "minray.base.ids",
    "FunctionID": "minray.base.ids",
    "ActorClassID": "minray.base.ids",
    "PlacementGroupID": "minray.base.ids",
    "ClusterID": "minray.base.ids",
    "ObjectID": "minray.worker.object_ref",
    "LoggingConfig": "minray.worker.log_records",
    "Language": "minray.cross_language",
    "java_function": "minray.cross_language",
    "java_actor_class": "minray.cross_language",
    "cpp_function": "minray.cross_language",
}
_ELSEWHERE = ("cloudpickle",)  # Ray offers it under its own name
_MODULES = tuple(
    "_private actor cross_language dag exceptions experimental job_config remote_function runtime_context runtime_env "
    "types util testing widgets as_ray grading".split()
)
SCRIPT_MODE, WORKER_MODE = 0, 1  # what some libraries compare a process's mode with
_NOT_YET = frozenset("autoscaler cluster_utils dashboard data job_submission rllib serve train tune".split())

__all__ = [  # spelled out, not computed: type checkers and readers do not run code
    "ActorClass",
    "ActorClassID",
    "ActorHandle",
    "ActorID",
    "ClusterID",
    "DynamicObjectRefGenerator",
    "FunctionID",
    "JobID",
    "Language",
    "LoggingConfig",
    "NodeID",
    "ObjectID",
    "ObjectRef",
    "ObjectRefGenerator",
    "PlacementGroupID",
    "TaskID",
    "UniqueID",
    "WorkerID",
    "actor",
    "available_resources",
    "cancel",
    "cluster_resources",
    "cpp_function",
    "exceptions",
    "get",
    "get_actor",
    "get_gpu_ids",
    "get_runtime_context",
    "init",
    "is_initialized",
    "java_actor_class",
    "java_function",
    "kill",
    "load_run",
    "method",
    "nodes",
    "put",
    "record",
    "remote",
    "show",
    "shutdown",
    "timeline",
    "util",
    "wait",
]

if TYPE_CHECKING:
    from minray import actor, exceptions, util
    from minray.api.actor_class import ActorClass, ActorHandle, get_actor, kill, method
    from minray.api.context import (
        available_resources,
        cluster_resources,
        get_gpu_ids,
        get_runtime_context,
        nodes,
        timeline,
    )
    from minray.api.init import init, is_initialized, shutdown
    from minray.api.objects import cancel, get, put, remote, wait
    from minray.api.record import record
    from minray.base.ids import (
        ActorClassID,
        ActorID,
        ClusterID,
        FunctionID,
        JobID,
        NodeID,
        PlacementGroupID,
        TaskID,
        UniqueID,
        WorkerID,
    )
    from minray.cross_language import Language, cpp_function, java_actor_class, java_function
    from minray.recording.run import load_run
    from minray.widgets import show
    from minray.worker.generators import DynamicObjectRefGenerator, ObjectRefGenerator
    from minray.worker.log_records import LoggingConfig
    from minray.worker.object_ref import ObjectID, ObjectRef


def __getattr__(name: str) -> Any:
    import importlib

    home = _HOMES.get(name)
    if home is not None:
        value = getattr(importlib.import_module(home), name)
    elif name in _MODULES:
        value = importlib.import_module(f"minray.{name}")
    elif name in _ELSEWHERE:
        value = importlib.import_module(name)
    else:
        later = f": Ray's `{name}` is not part of this version of minray" if name in _NOT_YET else ""
        raise AttributeError(f"module 'minray' has no attribute {name!r}{later}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


def load_ipython_extension(ipython: Any) -> None:
    """`%load_ext minray`: the notebook magics."""
    from minray.widgets import load_ipython_extension as load

    load(ipython)
