"""The server on loopback: routes, request bodies, keys, the queue and the page."""
