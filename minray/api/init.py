"""How does a program enter and leave a cluster?

`init()` starts a node process and joins it, or joins a running session by address. One cluster at a
time: a second `init()` is refused unless `ignore_reinit_error`. Leaving (`shutdown`, the interpreter's
end, `kill -9`) ends every process that was started and removes every file.
"""

from __future__ import annotations

import atexit
import logging
import os
import secrets
import sys
import threading
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Self

from minray.api import teaching
from minray.api.driver_output import DriverOutput
from minray.base.config import SessionConfig, read_environment
from minray.base.host import detect_capacity
from minray.engine import seam
from minray.engine.seam import slot
from minray.serialization.functions import watch_reloads

_lock = threading.RLock()
_OPTIONS = (
    "num_cpus num_gpus resources labels object_store_memory local_mode ignore_reinit_error include_dashboard "
    "dashboard_host dashboard_port job_config configure_logging logging_level logging_format logging_config "
    "log_to_driver namespace runtime_env enable_resource_isolation system_reserved_cpu system_reserved_memory "
    "engine policies object_spilling_directory"
).split()
_UNDERSCORED = (
    "_redis_password _redis_username _redis_max_memory _temp_dir _system_config _memory _metrics_export_port "
    "_node_ip_address _driver_object_store_memory _plasma_directory _object_spilling_directory "
    "_enable_object_reconstruction _tracing_startup_hook _cgroup_path _node_name"
).split()


class RayContext(Mapping[str, Any]):
    """What `init()` returns: the session's addresses. A context manager that shuts down, and, used as a
    decorator line above a definition (`@init(...)`), a no-op that hands the definition through."""

    def __init__(self, address_info: dict[str, Any]) -> None:
        self.address_info = address_info
        self.dashboard_url = ""
        self.python_version = ".".join(map(str, sys.version_info[:3]))
        self.ray_version = _version()
        self.ray_commit = ""

    def __getitem__(self, key: str) -> Any:
        return self.address_info[key]

    def __iter__(self) -> Any:
        return iter(self.address_info)

    def __len__(self) -> int:
        return len(self.address_info)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        shutdown()

    def disconnect(self) -> None:
        """Leave the cluster."""
        shutdown()

    def __call__(self, definition: Any) -> Any:
        """`@ray.init(...)` above a function or class, as older programs have it: returned unchanged."""
        return definition

    def __repr__(self) -> str:
        node_id, session_dir = self.address_info["node_id"][:12], self.address_info["session_dir"]
        return f"RayContext(node_id={node_id}, session_dir={session_dir!r})"

    def _repr_html_(self) -> str:
        cpus = slot.engine.ask("cluster_resources").get("CPU", 0) if slot.engine is not None else 0
        return (
            '<div style="font:13px system-ui;padding:6px 10px;border-left:4px solid #0072b2">'
            f"<b>minray</b> {self.ray_version} · Python {self.python_version} · {cpus:g} CPUs · one node</div>"
        )


def _version() -> str:
    import minray

    return minray.__version__


def init(
    address: str | None = None,
    *,
    num_cpus: float | None = None,
    num_gpus: float | None = None,
    resources: dict[str, float] | None = None,
    labels: dict[str, str] | None = None,
    object_store_memory: int | None = None,
    local_mode: bool = False,
    ignore_reinit_error: bool = False,
    log_to_driver: bool = True,
    namespace: str | None = None,
    runtime_env: Any = None,
    logging_level: int | str = logging.INFO,
    engine: str = "cluster",
    policies: Mapping[str, Any] | None = None,
    **others: Any,
) -> RayContext:
    """Start a cluster on this machine and join it, or join a running session.

    address: None or "local" start one ("auto" in MINRAY_ADDRESS joins), "auto" joins the newest session
    of this user, a session folder joins that one. Capacities are declared, not checked against the
    machine: a laptop may say num_cpus=32 to study a program. object_store_memory in bytes.
    Raises: RuntimeError when already initialized, ConnectionError when there is nothing to join,
    ValueError or TypeError for bad options.
    """
    with _lock:
        _check_others(others)
        if engine != "cluster":
            raise ValueError(f"engine={engine!r} is not in this version of minray; there is 'cluster'.")
        if policies:
            raise ValueError("policies= are not in this version of minray.")
        if local_mode:
            raise ValueError(
                "local_mode was removed (in Ray too): run without it, or set breakpoints in the driver."
            )
        if slot.engine is not None:
            return _again(ignore_reinit_error)
        environment = read_environment()
        job = others.get("job_config")
        if job is not None:
            runtime_env, namespace = _of_job(job, runtime_env, namespace)
        records = _check_logging(others.get("logging_config"))
        address = address if address is not None else environment.address
        if logging_level is not None:
            logging.getLogger("minray").setLevel(logging_level)
        if address not in (None, "local"):
            if (
                num_cpus is not None
                or num_gpus is not None
                or resources is not None
                or object_store_memory is not None
            ):
                raise ValueError(
                    "When connecting to an existing cluster, num_cpus, num_gpus, resources and object_store_memory "
                    "must not be provided: its nodes have declared them."
                )
            assert address is not None
            return _attach(address, namespace, log_to_driver)
        capacity, arena_bytes = detect_capacity(
            environment, num_cpus, num_gpus, resources, object_store_memory, others.get("_memory")
        )
        return _start(
            capacity,
            arena_bytes,
            namespace or environment.namespace,
            log_to_driver,
            labels or {},
            others.get("_temp_dir") or environment.temp_dir,
            environment.tracing,
            runtime_env,
            (
                others.get("object_spilling_directory") or others.get("_object_spilling_directory"),
                others.get("_system_config"),
            ),
            records,
        )


def _of_job(job: Any, runtime_env: Any, namespace: str | None) -> tuple[Any, str | None]:
    """(runtime_env, namespace) of a `JobConfig`, where `init` does not name them itself."""
    if job.default_actor_lifetime == "detached":
        raise ValueError(
            "JobConfig(default_actor_lifetime='detached') is not offered: give lifetime='detached' to the actors that "
            "should outlive their handles."
        )
    return runtime_env or job.runtime_env, namespace or job.ray_namespace


def _check_logging(config: Any) -> dict[str, Any]:
    """The fields of `logging_config=`; none, nothing."""
    if config is None:
        return {}
    from minray.worker.log_records import LoggingConfig

    if not isinstance(config, LoggingConfig):
        raise TypeError(f"logging_config must be a LoggingConfig, not {type(config).__name__}")
    return vars(config)


def _check_others(others: dict[str, Any]) -> None:
    for name in others:
        if name not in _OPTIONS and name not in _UNDERSCORED:
            import difflib

            near = difflib.get_close_matches(name, [*_OPTIONS, "address"], 1)
            hint = f" Did you mean {near[0]}?" if near else ""
            raise RuntimeError(f"Unknown keyword argument(s): {name}.{hint}")


def _again(ignore: bool) -> RayContext:
    engine = slot.engine
    if not getattr(engine.core, "is_driver", True):
        return RayContext(_addresses(engine))  # inside a worker: it is a member already
    if ignore:
        logging.getLogger("minray").info("Calling init() again after it has already been called.")
        return RayContext(_addresses(engine))
    raise RuntimeError(
        "Maybe you called ray.init twice by accident? This error can be suppressed by passing in "
        "'ignore_reinit_error=True' or by calling 'ray.shutdown()' prior to 'ray.init()'."
    )


def _start(
    capacity: dict[str, float],
    arena_bytes: int,
    namespace: str | None,
    log_to_driver: bool,
    labels: dict[str, str],
    temp_dir: str | None,
    tracing: bool,
    runtime_env: Any,
    spilling: tuple[Any, Any],
    records: dict[str, Any],
) -> RayContext:
    from minray.node.session_dir import make_session_dir, remove_session_dir
    from minray.node.start import begin_node

    main = sys.modules.get("__main__")
    session_dir = make_session_dir(temp_dir)
    try:
        environment = _job_environment(runtime_env, session_dir)
        spilling_fields = {} if spilling == (None, None) else _spilling_fields(*spilling, session_dir)
    except BaseException:
        remove_session_dir(session_dir)
        raise
    folder = environment.get("working_dir")
    config = SessionConfig(
        session_dir=session_dir,
        token=secrets.token_bytes(32),
        node_id=secrets.token_bytes(28),
        driver_pid=os.getpid(),
        resources=capacity,
        arena_bytes=arena_bytes,
        namespace=namespace or str(uuid.uuid4()),
        log_to_driver=log_to_driver,
        sys_path=(*([folder] if folder else []), *environment.get("py_modules", ()), *_paths_of_workers()),
        working_dir=folder or os.getcwd(),
        preload=tuple(name for name in ("numpy",) if name in sys.modules),
        main_path=str(getattr(main, "__file__", "") or ""),
        tracing=tracing,
        as_ray=_is_as_ray(),
        labels=labels,
        environment=environment,
        **spilling_fields,
        logging=records,
    )
    with _environment_of_workers(environment.get("env_vars") or {}):
        node = begin_node(config)
    try:
        import minray.engine.cluster  # noqa: F401  (takes as long as the node's start: both at once)

        node.wait_until_ready()
        return _join(config, node)
    except BaseException:
        node.stop()
        raise


def _spilling_fields(directory: Any, system_config: Any, session_dir: str) -> dict[str, Any]:
    from minray.api.spilling_options import spilling_fields
    from minray.node.session_dir import note_spill_folder

    fields = spilling_fields(directory, system_config, os.path.basename(session_dir))
    if "spill_path" in fields:
        note_spill_folder(session_dir, fields["spill_path"])
    return fields


def _job_environment(given: Any, session_dir: str) -> dict[str, Any]:
    """`init(runtime_env=...)`, checked, its folders copied."""
    if not given:
        return {}
    from minray.runtime_env.packaging import prepare
    from minray.serialization.functions import dump_code

    if not isinstance(given, Mapping):
        raise TypeError(f"runtime_env must be dict or RuntimeEnv, not {type(given).__name__}")
    return prepare(given, session_dir, dump_code)


@contextmanager
def _environment_of_workers(variables: Mapping[str, str]) -> Iterator[None]:
    """The node and all workers inherit the variables of the job; the driver's own stay as they are."""
    before = {key: os.environ.get(key) for key in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for key, value in before.items():
            if value is None:
                os.environ.pop(key, None)
            else:
                os.environ[key] = value


def _is_as_ray() -> bool:
    module = sys.modules.get("minray.as_ray")
    return bool(module is not None and module.is_installed())


def _paths_of_workers() -> tuple[str, ...]:
    """The driver's module paths; an interactive session's "" becomes the working directory."""
    return tuple(os.getcwd() if path == "" else path for path in sys.path)


def _attach(address: str, namespace: str | None, log_to_driver: bool) -> RayContext:
    import dataclasses

    from minray.node.session_dir import find_live_sessions, read_session

    if address.startswith(("ray://", "minray://")) or (":" in address and not os.path.isdir(address)):
        raise ConnectionError(
            f"init(address={address!r}): clusters of several machines are not in this version of minray. "
            "Leave the address out to start one here, or use 'auto' to join a running session of yours."
        )
    environment = read_environment()
    if address == "auto":
        sessions = find_live_sessions(environment.temp_dir)
        if not sessions:
            raise ConnectionError(
                "Could not find any running Ray instance. Please specify the one to connect to by setting the "
                "`address` argument, or call init() without one to start a cluster."
            )
        path = sessions[0].path
    else:
        path = address
    try:
        config = read_session(path)
    except OSError as error:
        raise ConnectionError(f"init(address={address!r}): no running session there ({error}).") from None
    config = dataclasses.replace(
        config, log_to_driver=log_to_driver, namespace=namespace or str(uuid.uuid4())
    )
    try:
        return _join(config, None)
    except OSError as error:
        raise ConnectionError(f"init(address={address!r}): the session does not answer ({error}).") from None


def _join(config: SessionConfig, node: Any) -> RayContext:
    from minray.engine.cluster import join_driver

    engine = join_driver(config, node)
    core = engine.core
    output = DriverOutput(core.loop.call_later, config.log_to_driver)
    core.on_log = output.show
    core.on_warning = teaching.say
    core.on_shutdown = lambda reason: None
    if config.logging:
        from minray.worker.log_records import LoggingConfig, writer

        LoggingConfig(**config.logging).apply(lambda: writer(engine.running()))
    watch_reloads()
    _hook_notebook()
    atexit.register(shutdown)
    return RayContext(_addresses(engine))


def _addresses(engine: Any) -> dict[str, Any]:
    config = engine.core.config
    return {
        "node_ip_address": "127.0.0.1",
        "address": config.session_dir,
        "gcs_address": config.session_dir,
        "session_dir": config.session_dir,
        "raylet_socket_name": config.node_socket,
        "object_store_address": config.node_socket,
        "node_id": config.node_id.hex(),
        "webui_url": "",
        "namespace": config.namespace,
    }


_hooked = False


def _hook_notebook() -> None:
    """In IPython each cell is a new epoch of code, and ipykernel resets SIGINT around each cell."""
    global _hooked
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None and hasattr(ipython, "get_ipython") else None
    if shell is None or _hooked:
        return
    from minray.serialization.functions import new_epoch
    from minray.worker.interrupts import interrupts

    def before_cell(*_: Any) -> None:
        new_epoch()
        if slot.engine is not None:
            interrupts.install()

    shell.events.register("pre_run_cell", before_cell)
    _hooked = True


def auto_init() -> Any:
    """The first remote call of a program that never called `init()`."""
    with _lock:
        if slot.engine is None:
            init()
        return slot.engine


def shutdown(_exiting_interpreter: bool = False) -> None:
    """Leave; a driver that started the cluster ends it, with every process and file. Harmless twice."""
    with _lock:
        engine = slot.engine
        if engine is None:
            return
        if not engine.core.is_driver:
            raise RuntimeError(
                "shutdown() inside a task or actor would end the worker under it; return instead."
            )
        if "minray.api.record" in sys.modules:
            sys.modules["minray.api.record"].finish_recordings()
        engine.close()
        atexit.unregister(shutdown)
        teaching.reset()


def is_initialized() -> bool:
    """Whether this process is a member of a cluster."""
    return seam.slot.engine is not None
