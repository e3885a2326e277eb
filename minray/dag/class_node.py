"""What do `Class.bind(...)` and `node.method.bind(...)` give? An actor to be made, and calls of its methods.

Each execution of a graph makes its actors anew. Methods bound to one class node run in the order in which
they were bound, also those whose results nobody uses: an actor has state, so order is part of the program.

    counter = Counter.bind(10); counter.add.bind(5); counter.get.bind().execute()   # 15, as in Ray
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from minray.dag.dag_node import DAGNode


class ClassNode(DAGNode):
    """An actor to be created. Its attributes are its methods, to be bound."""

    def __init__(
        self, cls: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any], options: Mapping[str, Any]
    ) -> None:
        super().__init__(args, kwargs, options)
        self._actor_class = cls
        self._last_call: ClassMethodNode | None = None

    def _call(
        self, args: tuple[Any, ...], kwargs: dict[str, Any], values: Mapping[int, Any], given: Any
    ) -> Any:
        return self._actor_class.remote(*args, **kwargs)

    def _body(self) -> str:
        return repr(self._actor_class)

    def __getattr__(self, name: str) -> Any:
        if name == "remote" or name.startswith("__"):
            return super().__getattr__(name)
        cls = self.__dict__["_actor_class"].modified_class
        if not hasattr(cls, name):
            raise AttributeError(f"type object {cls.__name__!r} has no attribute {name!r}")
        return _UnboundMethod(self, name, {})


class _UnboundMethod:
    """`node.method`, of which only `.bind()` and `.options()` make sense."""

    def __init__(self, actor: ClassNode, name: str, options: Mapping[str, Any]) -> None:
        self._actor = actor
        self._name = name
        self._options = options

    def bind(self, *args: Any, **kwargs: Any) -> ClassMethodNode:
        """A call of the method, to be made later."""
        return ClassMethodNode(self._actor, self._name, args, kwargs, self._options)

    def options(self, **options: Any) -> _UnboundMethod:
        """The same method with options, for example `num_returns=2`."""
        return _UnboundMethod(self._actor, self._name, {**self._options, **options})

    def __getattr__(self, name: str) -> Any:
        if name == "remote":
            raise AttributeError(
                ".remote() cannot be used on ClassMethodNodes. Use .bind() instead to express an symbolic actor call."
            )
        raise AttributeError(name)


class ClassMethodNode(DAGNode):
    """A call of an actor's method. `actor` is a class node, or the handle of a living actor."""

    def __init__(
        self,
        actor: Any,
        name: str,
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
        options: Mapping[str, Any],
    ) -> None:
        super().__init__(args, kwargs, options)
        self._actor = actor
        self._method_name = name
        self._previous: ClassMethodNode | None = None
        if isinstance(actor, ClassNode):
            self._previous, actor._last_call = actor._last_call, self

    def get_method_name(self) -> str:
        """The method's name."""
        return self._method_name

    def _upstream(self) -> list[DAGNode]:
        before = [node for node in (self._previous, self._actor) if isinstance(node, DAGNode)]
        return [*before, *super()._upstream()]

    def _call(
        self, args: tuple[Any, ...], kwargs: dict[str, Any], values: Mapping[int, Any], given: Any
    ) -> Any:
        actor = values[id(self._actor)] if isinstance(self._actor, ClassNode) else self._actor
        method = getattr(actor, self._method_name)
        if self._bound_options:
            method = method.options(**self._bound_options)
        return method.remote(*args, **kwargs)

    def _copy_with(self, replaced: Mapping[int, Any]) -> ClassMethodNode:
        twin = super()._copy_with(replaced)
        if isinstance(self._actor, DAGNode):
            twin._actor = replaced.get(id(self._actor), self._actor)
        if self._previous is not None:
            twin._previous = replaced.get(id(self._previous), self._previous)
        return twin

    def _body(self) -> str:
        return f"{self._method_name}()"
