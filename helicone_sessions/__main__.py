"""``python -m helicone_sessions`` is ``helicone-sessions``."""

from helicone_sessions.cli import main

if __name__ == "__main__":
    main()
