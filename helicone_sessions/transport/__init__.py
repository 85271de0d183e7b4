"""The client, with its retries, rate limiting and batches."""
