"""``helicone-sessions filter``: a filter in its other forms."""

import json
import sys
from typing import Literal

from helicone_sessions.cli.arguments import condition
from helicone_sessions.cli.error_text import caution_text

Output = Literal["json", "tree", "python", "text"]


def filter_(text: str, /, *, output: Output = "json") -> None:
    """Show the JSON of a filter, its tree, and the parts that the open-source server would read differently.

    Nothing is sent, and no key is needed.

    Args:
        text: The filter, e.g. 'cost > 0.1 and model contains "gpt"', or its JSON.
        output: The format of the output: the API's JSON, the tree, Python source, or text.
    """
    read = condition(text)
    wire = json.dumps(read.to_wire(), indent=2, ensure_ascii=False)
    shown = {"json": wire, "tree": read.explain(), "python": repr(read), "text": str(read)}
    if output == "json":
        # People see the tree too; a pipe gets the JSON alone.
        sys.stderr.write(f"{read.explain()}\n\n")
    sys.stdout.write(f"{shown[output]}\n")
    for caution in read.cautions():
        sys.stderr.write(f"caution: {caution_text(caution)}\n")
