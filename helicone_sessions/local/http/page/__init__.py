"""The page at ``/``: a filter box, the question, its answer drawn, and the texts that ask it elsewhere."""
