"""What does a task, an actor or a whole job need around it (`runtime_env=`)? As `ray.runtime_env`."""

from minray.runtime_env.description import RuntimeEnv, RuntimeEnvConfig

__all__ = ["RuntimeEnv", "RuntimeEnvConfig"]
