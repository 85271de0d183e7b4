"""The client: queries, retries, the rate limit and batches."""
