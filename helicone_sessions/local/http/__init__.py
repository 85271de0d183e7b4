"""The HTTP server: listening, routes, request bodies and the page."""
