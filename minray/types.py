"""What does Ray offer under `ray.types`? The type of references, for annotations."""

from minray.worker.object_ref import ObjectRef

__all__ = ["ObjectRef"]
