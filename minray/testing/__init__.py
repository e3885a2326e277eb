"""What does minray offer to the tests of programs that use it?

`check_leaks()` for any test, and the pytest fixture `minray_cluster` (see `minray.testing.plugin`).
"""

from minray.testing.leaks import LeakError, check_leaks

__all__ = ["LeakError", "check_leaks"]
