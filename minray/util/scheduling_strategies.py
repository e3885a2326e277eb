"""Where should a task or an actor run, said as an object?

    f.options(scheduling_strategy=NodeAffinitySchedulingStrategy(node_id, soft=False))

The strings "DEFAULT" and "SPREAD" need no object. Placement groups are not offered yet: their strategy
accepts only `placement_group=None`, which in Ray means "in no group".
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from minray.api.options import SchedulingStrategy

_NODE_ID_BYTES = 28


class NodeAffinitySchedulingStrategy(SchedulingStrategy):
    """Run on the node with the hex id `node_id`; `soft`: elsewhere if that node is gone."""

    def __init__(
        self,
        node_id: str | bytes,
        soft: bool,
        _spill_on_unavailable: bool = False,
        _fail_on_unavailable: bool = False,
    ) -> None:
        text = node_id if isinstance(node_id, str) else node_id.hex()
        try:
            raw = bytes.fromhex(text)
        except ValueError:
            raw = b""
        if len(raw) != _NODE_ID_BYTES or not any(raw):
            raise ValueError(
                f"Invalid node_id '{text}'. Node ID must be a valid hex string: minray.nodes() lists them."
            )
        if _spill_on_unavailable and not soft:
            raise ValueError("_spill_on_unavailable cannot be set when soft is False.")
        if _fail_on_unavailable and soft:
            raise ValueError("_fail_on_unavailable cannot be set when soft is True.")
        self.node_id = text
        self.soft = soft
        self._spill_on_unavailable = _spill_on_unavailable
        self._fail_on_unavailable = _fail_on_unavailable

    def refusal(self, node_id: str, labels: Mapping[str, str]) -> str:
        """See `SchedulingStrategy`."""
        if self.soft or node_id == self.node_id:
            return ""
        return f"the node {self.node_id} of its NodeAffinitySchedulingStrategy is not in the cluster, and soft=False"


class PlacementGroupSchedulingStrategy(SchedulingStrategy):
    """Run in a bundle of a placement group. Only `None` (in no group) is offered yet."""

    def __init__(
        self,
        placement_group: Any,
        placement_group_bundle_index: int = -1,
        placement_group_capture_child_tasks: bool | None = None,
    ) -> None:
        if placement_group is not None:
            raise ValueError(
                "minray does not offer placement groups yet; PlacementGroupSchedulingStrategy accepts "
                f"placement_group=None only, not {placement_group!r}."
            )
        self.placement_group = None
        self.placement_group_bundle_index = placement_group_bundle_index
        self.placement_group_capture_child_tasks = placement_group_capture_child_tasks


class _Values:
    def __init__(self, *values: str) -> None:
        name = type(self).__name__
        if not values:
            raise ValueError(f'{name}(...) needs at least one value: for example {name}("a", "b").')
        for value in values:
            if not isinstance(value, str):
                raise ValueError(f"a value of {name}(...) must be str, not {value!r}.")
        self.values = list(values)


class In(_Values):
    """The label has one of these values."""


class NotIn(_Values):
    """The label has none of these values."""


class Exists:
    """The node has the label."""


class DoesNotExist:
    """The node does not have the label."""


LabelOperator = In | NotIn | Exists | DoesNotExist


class NodeLabelSchedulingStrategy(SchedulingStrategy):
    """Run on a node whose labels meet all of `hard`, preferably those of `soft` too."""

    def __init__(
        self, hard: Mapping[str, LabelOperator] | None, *, soft: Mapping[str, LabelOperator] | None = None
    ) -> None:
        self.hard = _checked("hard", hard)
        self.soft = _checked("soft", soft)
        if not self.hard and not self.soft:
            raise ValueError("hard and soft of NodeLabelSchedulingStrategy cannot both be empty.")

    def unmet(self, labels: Mapping[str, str]) -> list[str]:
        """The keys of `hard` whose condition a node with `labels` does not meet."""
        return [key for key, operator in self.hard.items() if not _meets(operator, labels.get(key))]

    def refusal(self, node_id: str, labels: Mapping[str, str]) -> str:
        """See `SchedulingStrategy`."""
        unmet = self.unmet(labels)
        return f"node {node_id[:8]} does not meet its NodeLabelSchedulingStrategy in {unmet}" if unmet else ""


def _checked(name: str, conditions: object) -> dict[str, LabelOperator]:
    if conditions is None:
        return {}
    if not isinstance(conditions, Mapping):
        raise ValueError(f'{name} must be a mapping such as {{"zone": In("a")}}, not {conditions!r}.')
    for key, operator in conditions.items():
        if not isinstance(key, str):
            raise ValueError(f"a key of {name} must be str, not {key!r}.")
        if not isinstance(operator, In | NotIn | Exists | DoesNotExist):
            raise ValueError(
                f"the condition of {key!r} in {name} must be In, NotIn, Exists or DoesNotExist, "
                f"not {operator!r}."
            )
    return dict(conditions)


def _meets(operator: LabelOperator, value: str | None) -> bool:
    if isinstance(operator, In):
        return value in operator.values
    if isinstance(operator, NotIn):
        return value not in operator.values
    return (value is not None) == isinstance(operator, Exists)
