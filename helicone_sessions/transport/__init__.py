"""How a query gets to the service: the client, its retries, its gate and its batches."""
