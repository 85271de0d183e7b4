"""``helicone-sessions filter``: what a filter becomes, without asking anybody."""

import json
import sys
from typing import Literal

from helicone_sessions.cli.arguments import condition

Output = Literal["json", "tree", "python", "text"]


def filter_(text: str, /, *, output: Output = "json") -> None:
    """Show what a filter becomes: the JSON of the API, its tree, and what the service would read differently.

    Nothing is asked, and no key is needed.

    Args:
        text: The filter, as 'cost > 0.1 and model contains "gpt"'; JSON of the API is taken too.
        output: What goes to the standard output: the API's JSON, the tree, Python source, or the text
            of the filter.
    """
    read = condition(text)
    wire = json.dumps(read.to_wire(), indent=2, ensure_ascii=False)
    shown = {"json": wire, "tree": read.explain(), "python": repr(read), "text": str(read)}
    if output == "json":
        # Beside the JSON, for people; a pipe gets the JSON alone.
        sys.stderr.write(f"{read.explain()}\n\n")
    sys.stdout.write(f"{shown[output]}\n")
    for caution in read.cautions():
        sys.stderr.write(f"caution: {caution}\n")
