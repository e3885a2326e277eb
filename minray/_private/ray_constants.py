"""Which constants of Ray do libraries pass back to `init`? minray's sessions have tokens of their own."""

REDIS_DEFAULT_PASSWORD = "5241590000000000"
DEFAULT_OBJECT_STORE_MEMORY_PROPORTION = 0.3
OBJECT_STORE_MINIMUM_MEMORY_BYTES = 75 * 1024 * 1024
