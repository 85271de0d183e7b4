"""The files beside this one are for type checkers."""

collect_ignore = ["accepted.py", "rejected.py"]
