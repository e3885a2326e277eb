"""May this task or actor run on any node of the cluster, and which of its wishes are not granted yet?

Strategies and label selectors are wishes about nodes. They are checked when a function or class is
first called on a cluster: a wish that no node meets is an error at once, because the nodes of a
cluster on one machine do not change. (Ray would let the task wait for a node that may come.)
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from minray.api.options import ActorOptions, SchedulingStrategy, TaskOptions
from minray.base.errors import ActorUnschedulableError, TaskUnschedulableError


def check_wishes(options: TaskOptions | ActorOptions, engine: Any) -> None:
    """Refuse what no node can grant.

    Raises: TaskUnschedulableError or ActorUnschedulableError with the reason.
    """
    strategy = options.scheduling_strategy
    if isinstance(strategy, SchedulingStrategy) or options.label_selector:
        reason = refusal(strategy, options.label_selector, engine.ask("nodes"))
        if reason:
            raise (TaskUnschedulableError if isinstance(options, TaskOptions) else ActorUnschedulableError)(
                reason
            )


def refusal(
    strategy: str | SchedulingStrategy | None,
    label_selector: Mapping[str, str] | None,
    nodes: Iterable[Mapping[str, Any]],
) -> str:
    """Why none of `nodes` (rows of `minray.nodes()`) will do; empty when one does."""
    reasons = []
    for node in nodes:
        labels = node.get("Labels") or {}
        unmet = unmet_labels(label_selector, labels)
        if unmet:
            reasons.append(f"node {node['NodeID'][:8]} with labels {labels} does not meet {', '.join(unmet)}")
            continue
        reason = strategy.refusal(node["NodeID"], labels) if isinstance(strategy, SchedulingStrategy) else ""
        if not reason:
            return ""
        reasons.append(reason)
    return "; ".join(reasons) or "the cluster has no node"


def unmet_labels(selector: Mapping[str, str] | None, labels: Mapping[str, str]) -> list[str]:
    """The conditions of `selector` that a node with `labels` does not meet, as `key=condition`."""
    return [
        f"{key}={condition}"
        for key, condition in (selector or {}).items()
        if not _meets(condition, labels.get(key))
    ]


def _meets(condition: str, value: str | None) -> bool:
    negated = condition.startswith("!")
    wanted = condition.removeprefix("!")
    accepted: Iterable[str] = (wanted,)
    if wanted.startswith("in(") and wanted.endswith(")"):
        accepted = [part.strip() for part in wanted[3:-1].split(",")]
    return (value is not None and value in accepted) != negated
