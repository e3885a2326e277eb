"""Which address has this node? `ray._private.services.get_node_ip_address`, which Modin and others call."""

from minray.util import get_node_ip_address

__all__ = ["get_node_ip_address"]
