"""What does an owner decide from what it has seen? Pure cores: no sockets, no clocks, no threads."""
