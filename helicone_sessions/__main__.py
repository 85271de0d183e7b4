"""Runs the command line for ``python -m helicone_sessions``."""

from helicone_sessions.cli import main

if __name__ == "__main__":
    main()
