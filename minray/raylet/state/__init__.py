"""Who gets a worker, and when does one go? Pure tables of leases, demands and workers."""
