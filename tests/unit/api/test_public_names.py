"""Does `minray.__all__` say what the lazy table of names can deliver?"""

from __future__ import annotations

import importlib.util

import minray


def test_every_public_name_has_a_home_and_every_home_is_public() -> None:
    assert set(minray.__all__) == {*minray._HOMES, "actor", "exceptions", "util"}
    for name in minray.__all__:
        if name != "show":  # needs the extra "lab"
            assert getattr(minray, name) is not None
    for name in minray._MODULES:
        assert importlib.util.find_spec(f"minray.{name}") is not None
