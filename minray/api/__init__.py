"""The public verbs (`remote`, `get`, `put`, `wait`, ...): they validate, build specs and call the engine."""
