"""The HTTP server: the listening socket, routes, request bodies and the web page."""
