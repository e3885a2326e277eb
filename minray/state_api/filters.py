"""Which rows does a filter let through? (column, "=" | "!=", value), all of them at once.

As in Ray: strings are compared without regard to case, a filter's text is converted to the type of its
column ("True", "12"), and a column that may not be filtered is an error that lists those that may. Pure.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from typing import Any

from minray.state_api.schema import PREDICATES, StateSchema

Filter = tuple[str, str, Any]
_TRUE, _FALSE = ("True", "true", "1"), ("False", "false", "0")


def matching(
    rows: Iterable[dict[str, Any]], filters: Sequence[Filter], schema: type[StateSchema]
) -> list[dict[str, Any]]:
    """The rows that every filter lets through. Raises: ValueError for a filter that makes no sense."""
    wanted = [_checked(one, schema) for one in filters]
    return [row for row in rows if all(_matches(row.get(key), how, value) for key, how, value in wanted)]


def _checked(one: Filter, schema: type[StateSchema]) -> Filter:
    key, how, value = one
    key = key.lower()
    allowed = schema.filterable_columns()
    if key not in allowed:
        raise ValueError(
            f"The given filter column {key} is not supported. Enter filters with –-filter key=value "
            f"or –-filter key!=value Supported filter columns: {allowed}"
        )
    if how not in PREDICATES:
        raise ValueError(f"Unsupported filter predicate {how} is given. Available predicates: =, !=.")
    types = {field.name: str(field.type).partition(" | ")[0] for field in dataclasses.fields(schema)}  # type: ignore[arg-type]
    return key, how, _converted(value, types[key])


def _converted(value: Any, wanted: str) -> Any:
    if not isinstance(value, str):
        return value
    if wanted == "bool":
        if value in _TRUE or value in _FALSE:
            return value in _TRUE
    elif wanted in ("int", "float"):
        try:
            return int(value) if wanted == "int" else float(value)
        except ValueError:
            pass
    else:
        return value
    raise ValueError(f"Failed to convert a value {value} of type {type(value)} to <class '{wanted}'>")


def _matches(have: Any, how: str, value: Any) -> bool:
    if isinstance(have, str) and isinstance(value, str):
        same = have.lower() == value.lower()
    else:
        same = bool(have == value)
    return same if how == "=" else not same
