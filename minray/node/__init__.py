"""A node's processes: how they are started, where they keep their session, how they end."""
