"""What do libraries use of `ray.experimental`? Object locations, the key-value table, progress bars."""

from minray.experimental.locations import get_local_object_locations, get_object_locations

__all__ = ["get_local_object_locations", "get_object_locations"]
