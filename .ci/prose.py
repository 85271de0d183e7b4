"""Check the English of pages, docstrings, comments and messages, and the width of the code in pages.

`nox -s lint` runs it: ``python .ci/prose.py [FILE ...]``, by default on the paths below.
"""

import ast
import io
import json
import re
import sys
import tokenize
from collections.abc import Iterator
from pathlib import Path

PATHS = (
    "*.md",
    "*.py",
    ".ci/*.py",
    "docs/**/*.md",
    "docs/**/*.py",
    "docs/how-to/*.ipynb",
    "examples/*.py",
    "benchmarks/**/*.py",
    "helicone_sessions/**/*.py",
    "tests/**/*.py",
)
# Phrases that read like a translation, with a hint for each.
PHRASES = {
    r"(?:^|(?<=[.:] ))(?:What|That which)\b(?=[^?]*\.(?:\s|$))": "start with the subject",
    r"\bof (?:its|his|her|their|your|our|one's) own\b": "its own …, your own …",
    r"\b(?:is|are) due\b": "expected …, got …",
    r"\bthose (?:that|which|who)\b": "repeat the noun",
    r"\b(?:is|are|was|were|not|been) (?:told|said)\b": "say who reports what",
    r"\bstands? (?:in|at|there|beside|below|above|before|behind)\b": "is in, is at",
    r"\blies? (?:in|at|between|on|outside|beside|behind)\b": "is in, is at",
    r"\bask(?:s|ed)? (?:again|anew)\b": "retry, run again",
    r"\bmend(?:s|ed|ing)?\b": "fix",
    r"\bwithout a word\b": "by default",
    r"\bat (?:your|our) side\b": "on your side",
    r"\bweaknesses?\b": "vulnerability",
    r"\b(?:beginning|begin|begins|made|written down) anew\b": "start again, rewrite",
    r"\bgives? (?:back|out)\b": "return",
    r"(?<!such )\bas \d+[mhdw]\b": "for example, such as",
}
WIDEST = 80
PHRASE = re.compile("|".join(f"(?P<p{number}>{phrase})" for number, phrase in enumerate(PHRASES)))
FENCE = re.compile(r"^ *```([^\n`]*)\n(.*?)^ *```$", re.MULTILINE | re.DOTALL)


def pages(text: str) -> Iterator[tuple[int, str]]:
    """The paragraphs of a page without its code, each with its line."""
    plain = FENCE.sub(lambda found: "\n" * found[0].count("\n"), text)
    plain = re.sub(r"``.*?``|`[^`\n]*`|\]\([^)]*\)", lambda found: "·" + "\n" * found[0].count("\n"), plain)
    yield from paragraphs(plain)


def paragraphs(text: str, line: int = 1) -> Iterator[tuple[int, str]]:
    """Blocks between empty lines, list items and cells of tables, each as one line."""
    for found in re.finditer(r"[^\n|]+(?:\n(?!\s*(?:\n|[-*#|>]|\d\.|\w+:\s)).+)*", text):
        yield line + text.count("\n", 0, found.start()), re.sub(r"\s+", " ", found[0]).strip(" -*#|>")


def prose_of_python(text: str) -> Iterator[tuple[int, str]]:
    """Comments, and every string of several words: docstrings and messages."""
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.COMMENT:
            yield token.start[0], token.string.lstrip("# ")
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value.count(" ") > 1:
            plain = re.sub(r"^ *(?:>>>|\.\.\.).*$", "", node.value, flags=re.MULTILINE)
            plain = re.sub(r"``.*?``|`[^`\n]*`", "·", plain, flags=re.DOTALL)
            yield from paragraphs(plain, node.lineno)


def too_wide(text: str) -> Iterator[tuple[int, str]]:
    """Lines of code in a page for which it would have to be scrolled."""
    for found in FENCE.finditer(text):
        first = text.count("\n", 0, found.start()) + 1
        if not found[1].startswith(("{image}", "{eval-rst}", "{toctree}")):
            for number, line in enumerate(found[2].splitlines(), start=first + 1):
                if len(line) > WIDEST:
                    yield number, f"code of {len(line)} characters in a line, more than {WIDEST}"


def complaints(file: Path) -> Iterator[tuple[int, str]]:
    """The lines of a file to rewrite, each with a hint."""
    text = file.read_text("utf-8")
    found: Iterator[tuple[int, str]]
    if file.suffix == ".py":
        found = prose_of_python(text)
    elif file.suffix == ".ipynb":
        cells = [cell for cell in json.loads(text)["cells"] if cell["cell_type"] == "markdown"]
        found = pages("\n\n".join("".join(cell["source"]) for cell in cells))
    else:
        found = pages(text)
        yield from too_wide(text)
    for line, prose in found:
        for hit in PHRASE.finditer(prose):
            hint = list(PHRASES.values())[int((hit.lastgroup or "p0")[1:])]
            around = prose[max(0, hit.start() - 30) : hit.end() + 30]
            yield line, f"“…{around}…”: {hint}"


def main(*names: str) -> int:
    """Check these files, or those of the project; the exit code is 1 if there is something to rewrite."""
    root = Path(__file__).parents[1]
    files = [Path(name) for name in names] or [file for path in PATHS for file in root.glob(path)]
    checked = [file for file in files if file.resolve() != Path(__file__) and "_build" not in file.parts]
    found = [f"{file}:{line}: {what}" for file in checked for line, what in complaints(file)]
    print(*found, sep="\n")
    return int(bool(found))


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
