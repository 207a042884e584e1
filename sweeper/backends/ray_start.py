"""Limits on the start of Ray: its time, the signals that reach its processes, and what a failed start leaves behind. Imports no Ray."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress

from sap_core.machine import parents

_END_SECONDS = 5.0
"""Seconds that processes have for ending after SIGTERM; then they are killed."""

_ABANDON_SECONDS = 10.0
"""Time limit for shutting down a Ray that did not start."""

_STUCK_SECONDS = 15.0
"""Seconds between the steps of `end_if_stuck`."""


class TimedOut(BaseException):
    """The time limit is over. No `Exception`, because Ray catches those and tries again."""


@contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Raises `TimedOut` in the block after `seconds`; has no effect outside of the main thread, which alone receives signals."""
    if threading.current_thread() is not threading.main_thread() or not hasattr(signal, "setitimer"):
        yield
        return

    def interrupt(*_: object) -> None:
        raise TimedOut

    before = signal.signal(signal.SIGALRM, interrupt)
    # A timer of 0 would be none.
    signal.setitimer(signal.ITIMER_REAL, max(seconds, 0.01))
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@contextmanager
def end_if_stuck(seconds: float, children: set[int], sentence: str, step: float = _STUCK_SECONDS) -> Iterator[None]:
    """Ends this process with a sentence and exit code 2 if the block runs on long after its time limit of `seconds`.

    A signal interrupts Python code only. A call of Ray's own code (C++) that does not return would be a wait without end.

    Args:
        seconds: the time limit of the block.
        children: the processes that ran before the block; `step` seconds after the limit all newer descendants are ended, whereupon most
            calls return, and another `step` seconds later this process ends.
        sentence: the message.
        step: see `children`.
    """
    ended = threading.Event()

    def watch() -> None:
        if ended.wait(max(0.0, seconds) + step):
            return
        end_new_descendants(children)
        if not ended.wait(step):
            print(f"error: {sentence}", file=sys.stderr, flush=True)
            # Without the end of the interpreter, which would wait for the call. No job has run.
            os._exit(2)

    threading.Thread(target=watch, daemon=True).start()
    try:
        yield
    finally:
        ended.set()


@contextmanager
def hangup_blocked() -> Iterator[None]:
    """Blocks SIGHUP in the processes that the block starts, which inherit the mask; this one receives it at the block's end at the latest.

    A terminal that is closed sends SIGHUP to Ray's processes as well. They would end before the running jobs have stored their state.
    """
    if not hasattr(signal, "SIGHUP"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def abandon(children: set[int]) -> None:
    """Ends what a failed start has left of Ray in this process and outside of it; `children` are the processes that ran before it."""
    ray = sys.modules.get("ray")
    with suppress(TimedOut, Exception), time_limit(_ABANDON_SECONDS):
        if ray is not None:
            ray.shutdown()
    end_new_descendants(children)


def end_new_descendants(before: Collection[int]) -> None:
    """Ends the descendants of this process that are not among the processes `before`, so that a failed start leaves nothing running."""
    for number, seconds in ((signal.SIGTERM, _END_SECONDS), (signal.SIGKILL, _END_SECONDS)):
        until = time.monotonic() + seconds
        for pid in (found := _descendants() - set(before)):
            with suppress(ProcessLookupError, PermissionError):
                os.kill(pid, number)
        while found and time.monotonic() < until:
            time.sleep(0.1)
            found = _descendants() & found
        if not found:
            return


def _descendants() -> set[int]:
    """The processes that this one has started, and those that they have started."""
    parent = parents()
    found = {os.getpid()}
    # Children may have lower numbers than their parents, so the table is read until nothing is added.
    while more := {pid for pid, above in parent.items() if above in found} - found:
        found |= more
    return found - {os.getpid()}
