"""Read-only SQL on a store, in a process that can do nothing else."""
