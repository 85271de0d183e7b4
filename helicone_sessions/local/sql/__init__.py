"""Runs read-only SQL on a store, in a confined process."""
