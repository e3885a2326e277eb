"""The tables of the global control service, pure: facts in, orders out, no clock and no socket."""
