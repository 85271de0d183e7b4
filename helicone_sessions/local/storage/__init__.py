"""The store: from users' rows to the engine's tables."""
