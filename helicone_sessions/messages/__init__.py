"""What goes over the wire: queries, metrics, their JSON, and the protocol without any I/O."""
