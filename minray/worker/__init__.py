"""Every process that owns objects or runs tasks, the driver included: submit, execute, count references."""
