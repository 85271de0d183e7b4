"""`helicone-sessions` as the blocks of the documentation call it: a server ends as soon as it is ready."""

import re
import signal
import subprocess
import sys
from typing import Final

COMMAND: Final = [sys.executable, "-m", "helicone_sessions"]


def main(*arguments: str) -> int:
    """Run the command; its exit code."""
    if arguments[:1] != ("serve",):
        return subprocess.run([*COMMAND, *arguments], check=False).returncode
    # The port that a page names may be taken by others.
    given = re.sub(r" --port \d+| --host \S+", "", " ".join(arguments)).split()
    with subprocess.Popen([*COMMAND, *given, "--port", "0"], stderr=subprocess.PIPE, text=True) as server:
        for line in server.stderr or ():
            sys.stderr.write(line)
            if "ready at" in line:
                server.send_signal(signal.SIGINT)
    return server.returncode


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
