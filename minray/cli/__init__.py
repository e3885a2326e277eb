"""The command `minray`: one module a subcommand."""
