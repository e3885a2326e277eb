"""The seam under the public API, and the engine behind it that runs real processes."""
