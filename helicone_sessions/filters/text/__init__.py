"""Filters as text: the tokens, the parser and the printer."""
