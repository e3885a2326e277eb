"""Does lesson 02 keep its promises?"""

from __future__ import annotations

import pytest

from tests.notebooks.promises import Promises

pytestmark = pytest.mark.notebooks


class TestLesson02(Promises, lesson="02_objects"):
    """The questions of `promises`, to this lesson."""
