"""Global control: which actors, names and jobs exist. Decisions in `state`, questions answered by `service`."""
