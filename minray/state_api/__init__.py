"""What would an observer of a running session see? Rows with Ray's names, for `minray.util.state` and the commands."""
