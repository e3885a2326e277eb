"""What does Ray offer under `ray.remote_function`? The same name, from where it lives here."""

from minray.api.remote_function import RemoteFunction

__all__ = ["RemoteFunction"]
