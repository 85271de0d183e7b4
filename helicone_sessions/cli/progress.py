"""How many queries of a batch are answered, on a terminal."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def of_queries(*, transient: bool = False) -> Iterator[Callable[[int, int | None, int], None]]:
    """A bar on the standard error, where that is a terminal; what is yielded goes into ``on_progress=``.

    Args:
        transient: Whether it is gone at the end.
    """
    from rich.console import Console  # noqa: PLC0415 - it is an extra
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn  # noqa: PLC0415

    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(
        *columns, console=console, disable=not console.is_terminal, transient=transient
    ) as progress:
        task = progress.add_task("queries", total=None)
        yield lambda done, total, _failed: progress.update(task, completed=done, total=total)
