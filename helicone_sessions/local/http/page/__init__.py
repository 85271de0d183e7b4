"""The page at ``/``: a filter box, the results as charts and tables, and the query as code."""
