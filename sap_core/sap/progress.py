"""Progress bars on the terminal."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Protocol


class Progress(Protocol):
    """Shows one bar per stage of a computation."""

    def stage(self, text: str, total: int | None = None) -> Callable[[int], None]:
        """Begin a stage, and end the one before it.

        Args:
            text: what is done.
            total: number of steps; None if unknown.

        Returns:
            A function that is called with the number of further steps done.
        """


class NoProgress:
    """Shows nothing."""

    def stage(self, text: str, total: int | None = None) -> Callable[[int], None]:
        return lambda steps: None


@contextmanager
def progress_bar(wanted: bool) -> Iterator[Progress]:
    """Show bars within a block and remove them at its end: on standard error if it is a terminal, and in a notebook that has ipywidgets."""
    if not wanted:
        yield NoProgress()
        return
    try:
        # Imported here, because the library must not need rich when it is imported.
        from rich import console, progress
    except ImportError:
        yield NoProgress()
        return
    terminal = console.Console(stderr=True)
    # Without ipywidgets rich would print a warning in place of a bar.
    shown = find_spec("ipywidgets") is not None if terminal.is_jupyter else terminal.is_terminal
    if not shown:
        yield NoProgress()
        return
    columns = (
        progress.TextColumn("{task.description}"),
        progress.BarColumn(),
        progress.MofNCompleteColumn(),
        progress.TimeElapsedColumn(),
        progress.TimeRemainingColumn(),
    )
    with progress.Progress(*columns, console=terminal, transient=True) as bars:

        class Bars:
            def stage(self, text: str, total: int | None = None) -> Callable[[int], None]:
                for task in bars.tasks:
                    bars.stop_task(task.id)
                    # A finished stage of unknown length would move on for ever.
                    bars.update(task.id, total=task.completed if task.total is None else task.total)
                started = bars.add_task(text, total=total)
                return lambda steps: bars.update(started, advance=steps)

        yield Bars()
