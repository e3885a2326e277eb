"""How are several equal actors started, called and ended together?

    group = ActorGroup(Counter, num_actors=3)
    minray.get(group.add.remote(1))        # a call of each: three results

Ray keeps this class for older programs and recommends `multiprocessing.Pool` or `ActorPool` instead; so do we.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import minray


@dataclass
class ActorWrapper:
    """One actor of a group, and what its method `get_actor_metadata` said (None where there is none)."""

    actor: Any
    metadata: Any


@dataclass
class ActorConfig:
    """What the actors of a group are started with."""

    num_cpus: float
    num_gpus: float
    resources: dict[str, float] | None
    init_args: tuple[Any, ...]
    init_kwargs: dict[str, Any]


class ActorGroupMethod:
    """One method of all actors of a group."""

    def __init__(self, group: ActorGroup, name: str) -> None:
        self._group = group
        self._name = name

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Refused: methods run in the actors. Raises: TypeError that names `.remote()`."""
        raise TypeError(
            f"ActorGroup methods cannot be called directly. Instead of running 'object.{self._name}()', "
            f"try 'object.{self._name}.remote()'."
        )

    def remote(self, *args: Any, **kwargs: Any) -> list[Any]:
        """Call the method of each actor. Returns their references."""
        return [getattr(one.actor, self._name).remote(*args, **kwargs) for one in self._group.actors]


class ActorGroup:
    """`num_actors` actors of the class `actor_cls`; its attributes are their methods.

    Args:
        actor_cls: a plain class.
        num_actors: how many.
        num_cpus_per_actor: CPUs that each holds.
        num_gpus_per_actor: GPUs that each holds.
        resources_per_actor: other resources that each holds.
        init_args: positional arguments of the constructor.
        init_kwargs: keyword arguments of the constructor.

    Raises: ValueError for a number of actors below 1 or a negative amount.
    """

    def __init__(
        self,
        actor_cls: type,
        num_actors: int = 1,
        num_cpus_per_actor: float = 1,
        num_gpus_per_actor: float = 0,
        resources_per_actor: dict[str, float] | None = None,
        init_args: tuple[Any, ...] | None = None,
        init_kwargs: dict[str, Any] | None = None,
    ) -> None:
        if num_actors <= 0:
            raise ValueError(
                f"The provided `num_actors` must be greater than 0. Received num_actors={num_actors} instead."
            )
        if num_cpus_per_actor < 0 or num_gpus_per_actor < 0:
            raise ValueError(
                "The number of CPUs and GPUs per actor must not be negative. Received num_cpus_per_actor="
                f"{num_cpus_per_actor} and num_gpus_per_actor={num_gpus_per_actor}."
            )
        self.actors: list[ActorWrapper] = []
        self.num_actors = num_actors
        self.actor_config = ActorConfig(
            num_cpus_per_actor, num_gpus_per_actor, resources_per_actor, init_args or (), init_kwargs or {}
        )
        self._remote_cls: Any = minray.remote(
            num_cpus=num_cpus_per_actor, num_gpus=num_gpus_per_actor, resources=resources_per_actor
        )(actor_cls)
        self.start()

    def __getattr__(self, name: str) -> ActorGroupMethod:
        if name.startswith("__"):
            raise AttributeError(name)
        if not self.__dict__.get("actors"):
            raise RuntimeError("This ActorGroup has been shutdown. Please start it again.")
        return ActorGroupMethod(self, name)

    def __len__(self) -> int:
        return len(self.actors)

    def __getitem__(self, index: int) -> ActorWrapper:
        return self.actors[index]

    @property
    def actor_metadata(self) -> list[Any]:
        """What each actor's `get_actor_metadata` said."""
        return [one.metadata for one in self.actors]

    def start(self) -> None:
        """Start the actors (again). Raises: RuntimeError when they run."""
        if self.actors:
            raise RuntimeError(
                "The actors have already been started. Please call `shutdown` first if you want to restart them."
            )
        self.add_actors(self.num_actors)

    def add_actors(self, num_actors: int) -> None:
        """Start so many more."""
        config = self.actor_config
        fresh = [self._remote_cls.remote(*config.init_args, **config.init_kwargs) for _ in range(num_actors)]
        tells = num_actors > 0 and hasattr(fresh[0], "get_actor_metadata")
        metadata = (
            minray.get([one.get_actor_metadata.remote() for one in fresh]) if tells else [None] * num_actors
        )
        self.actors += [ActorWrapper(actor, said) for actor, said in zip(fresh, metadata, strict=True)]

    def remove_actors(self, actor_indexes: list[int]) -> None:
        """Forget these; they end when nobody else holds them."""
        self.actors = [one for index, one in enumerate(self.actors) if index not in actor_indexes]

    def shutdown(self, patience_s: float = 5) -> None:
        """End all: gracefully within `patience_s` seconds, by force after that (at once for 0 or less)."""
        actors = [one.actor for one in self.actors]
        self.actors = []
        late = actors
        if patience_s > 0 and actors:
            ends = {actor.__ray_terminate__.remote(): actor for actor in actors}
            _, waiting = minray.wait(list(ends), num_returns=len(ends), timeout=patience_s)
            late = [ends[ref] for ref in waiting]
        for actor in late:
            minray.kill(actor)
