"""Queries of the engine: from a filter to SQL, from rows to metrics."""
