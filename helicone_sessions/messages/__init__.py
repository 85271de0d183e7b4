"""Queries and answers, their JSON, and the protocol without any I/O."""
