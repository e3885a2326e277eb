"""What may a runtime_env say, and when are two of them one?"""

from __future__ import annotations

import pytest

from minray.runtime_env import RuntimeEnv, RuntimeEnvConfig
from minray.runtime_env.description import key_of, merged


@pytest.mark.parametrize(
    ("given", "error", "text"),
    [
        ({"working_dir": 3}, TypeError, "working_dir"),
        ({"env_vars": {"A": 1}}, TypeError, "env_vars"),
        ({"env_vars": ["A"]}, TypeError, "env_vars"),
        ({"py_modules": "folder"}, TypeError, "py_modules"),
        ({"excludes": "*.csv"}, TypeError, "excludes"),
        ({"worker_process_setup_hook": 3}, TypeError, "setup_hook"),
        ({"conda": "base"}, ValueError, "conda"),
        ({"image_uri": "x"}, ValueError, "container images"),
    ],
)
def test_impossible_values_are_refused_by_name(given: dict, error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        RuntimeEnv(**given)


def test_unknown_fields_are_named_and_ignored() -> None:
    with pytest.warns(UserWarning, match="wroking_dir"):
        RuntimeEnv(wroking_dir="x")


def test_a_runtime_env_is_a_dictionary_of_what_was_named() -> None:
    env = RuntimeEnv(working_dir="folder", env_vars={"A": "1"})
    assert env == {"working_dir": "folder", "env_vars": {"A": "1"}}
    assert RuntimeEnv.deserialize(env.serialize()) == env
    assert (env.working_dir(), env.env_vars(), env.py_modules(), env.has_pip()) == (
        "folder",
        {"A": "1"},
        [],
        False,
    )


def test_a_child_adds_variables_and_replaces_the_rest() -> None:
    parent = {"env_vars": {"A": "1", "B": "1"}, "working_dir": "old", "py_modules": ["m"]}
    child = merged(parent, {"env_vars": {"B": "2"}, "working_dir": "new"})
    assert child == {"env_vars": {"A": "1", "B": "2"}, "working_dir": "new", "py_modules": ["m"]}
    assert merged(parent, None) == parent
    assert merged({}, {"env_vars": {}}) == {}


def test_equal_environments_have_one_key_whatever_their_order() -> None:
    one, other = {"env_vars": {"A": "1", "B": "2"}}, {"env_vars": {"B": "2", "A": "1"}}
    assert key_of(one) == key_of(other) != key_of({"env_vars": {"A": "1"}})


def test_the_config_is_checked() -> None:
    assert RuntimeEnvConfig(setup_timeout_seconds=5)["setup_timeout_seconds"] == 5
    with pytest.raises(ValueError, match="setup_timeout_seconds"):
        RuntimeEnvConfig(setup_timeout_seconds=0)
    with pytest.raises(TypeError, match="eager_install"):
        RuntimeEnvConfig(eager_install="yes")  # type: ignore[arg-type]
