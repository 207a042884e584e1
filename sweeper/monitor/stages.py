"""Says on standard error what a command is doing until the progress display starts. Standard library only.

The first line comes within a second, unless the command has ended by then, and others every five seconds. Only a terminal gets them: in a
log or a pipe a mistake stays one line, and the events of the sweep follow each other without them.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

FIRST_SECONDS = 0.6
"""Time before the first line; a mistake in the command is reported without any."""

REPEAT_SECONDS = 5.0

_POLL_SECONDS = 0.1

_current: Stages | None = None


def stage(text: str | None) -> None:
    """Sets what is shown, if `showing_stages` is active; None: nothing, because something else shows the progress."""
    if _current is not None:
        _current.text = text


@contextmanager
def showing_stages(stream: TextIO | None = None) -> Iterator[None]:
    """Shows the stages that are set while the block runs.

    Args:
        stream: standard error if None.
    """
    global _current
    before, _current = _current, Stages(stream or sys.stderr)
    try:
        with _current:
            yield
    finally:
        _current = before


class Stages:
    """A context manager with a thread that prints the attribute `text`."""

    def __init__(self, stream: TextIO) -> None:
        self.text: str | None = None
        self._stream = stream
        self._ended = threading.Event()
        # Imports hold the interpreter for up to a second; a thread is as prompt as that allows.
        self._thread = threading.Thread(target=self._show, name="stages", daemon=True)

    def __enter__(self) -> Stages:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _show(self) -> None:
        start = time.monotonic()
        # Of the last line.
        shown: str | None = None
        at = begun = start
        if not self._stream.isatty() or self._ended.wait(FIRST_SECONDS):
            return
        while not self._ended.wait(_POLL_SECONDS):
            text, now = self.text, time.monotonic()
            if text != shown:
                shown, at, begun = text, now, now
                self._print(text)
            elif now - at >= REPEAT_SECONDS:
                at = now
                self._print(text and f"{text}: {now - begun:.0f} s")

    def _print(self, text: str | None) -> None:
        if text is not None:
            print(f"{text} ...", file=self._stream, flush=True)
