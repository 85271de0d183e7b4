"""Answers queries: filters become SQL, and rows become metrics and lists."""
