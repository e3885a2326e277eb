"""One node's resources and workers. Decisions in `state`; sockets, forks and deaths in the shells beside it."""
