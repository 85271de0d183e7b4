"""Answers queries: compiles filters to SQL, and converts rows to metrics and lists."""
