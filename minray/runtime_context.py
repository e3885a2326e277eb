"""What does Ray offer under `ray.runtime_context`? The same names, from where they live here."""

from minray.api.context import RuntimeContext, get_runtime_context

__all__ = ["RuntimeContext", "get_runtime_context"]
