"""The cost of an import, compared with aiohttp; both without the start of Python itself.

python benchmarks/imports.py [--quick]
"""

import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Final

from measure import Bar, is_quick, report

BARE: Final = "pass"
FLOOR: Final = "import aiohttp"
PACKAGE: Final = "import helicone_sessions"
EVERY_NAME: Final = "from helicone_sessions import *"
ENDS_WITH_AIOHTTP: Final = f"{EVERY_NAME}; import sys; sys.exit('aiohttp' in sys.modules)"


def run(code: str) -> int:
    # The package is the installed one, whatever directory this is started in.
    return subprocess.run([sys.executable, "-P", "-c", code], check=False).returncode  # noqa: S603 - our own


def seconds(code: str) -> float:
    begun = time.perf_counter()
    if run(code):
        raise RuntimeError(f"{code!r} failed")
    return time.perf_counter() - begun


def bars(rounds: int) -> Iterator[Bar]:
    codes = (BARE, FLOOR, PACKAGE, EVERY_NAME)
    for code in codes:
        # The first import compiles the modules.
        seconds(code)
    times = [{code: seconds(code) for code in codes} for _ in range(rounds)]
    for code, most in ((PACKAGE, 0.6), (EVERY_NAME, None)):
        ratios = [(each[code] - each[BARE]) / (each[FLOOR] - each[BARE]) for each in times]
        yield Bar.of(code, *ratios, most=most)
    yield Bar.of("aiohttp is imported with it", float(run(ENDS_WITH_AIOHTTP)), most=0)


if __name__ == "__main__":
    sys.exit(report("Importing, against aiohttp:", list(bars(7 if is_quick(__doc__) else 21))))
