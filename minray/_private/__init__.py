"""What do libraries use of `ray._private`, though they should not? A few names, by where Ray keeps them."""
