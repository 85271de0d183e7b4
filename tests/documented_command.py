"""`helicone-sessions` as the blocks of the documentation call it.

A server ends when it is ready, and a repeated sync after its first round.
"""

import re
import signal
import subprocess
import sys
from typing import Final

COMMAND: Final = [sys.executable, "-m", "helicone_sessions"]


def main(*arguments: str) -> int:
    """Run the command; its exit code."""
    if arguments[:1] == ("sync",) and "--every" in arguments:
        with subprocess.Popen([*COMMAND, *arguments], stdout=subprocess.PIPE, text=True) as syncing:
            assert syncing.stdout is not None
            syncing.stdout.readline()
            syncing.send_signal(signal.SIGINT)
        return syncing.returncode
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
