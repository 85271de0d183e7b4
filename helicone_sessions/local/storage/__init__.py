"""The store: loads users' rows into the engine's tables."""
