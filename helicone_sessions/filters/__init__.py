"""The filter language: expressions on columns become the and/or tree of the API."""
