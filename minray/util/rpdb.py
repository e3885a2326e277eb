"""Under which name do old programs look for the debugger? `ray.util.rpdb`; it is `minray.util.pdb`."""

from minray.util.pdb import connect, post_mortem, set_trace

__all__ = ["connect", "post_mortem", "set_trace"]
