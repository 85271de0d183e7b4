"""The filter language: expressions on columns that become the API's and/or tree."""
