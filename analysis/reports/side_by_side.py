"""Makes parts of a report in several processes, one for each core, because figures and tables take seconds of one core each."""

from __future__ import annotations

import multiprocessing
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import TypeVar

from analysis.store.load import Results
from analysis.store.results import cells
from sap_core.machine import cores

Part = TypeVar("Part")
Made = TypeVar("Made")

_results: Results | None = None
"""Of a worker process."""


def side_by_side(results: Results, make: Callable[[Results, Part], Made], parts: Sequence[Part]) -> Iterator[Made]:
    """Yields `make(results, part)` of every part, in order. What it appends to `results.damage` is appended here, too.

    Args:
        results: the loaded stores.
        make: a function of a module, or a partial of one; raises what this function raises.
        parts: the longest first, so that no process ends long after the others.
    """
    done = 0
    if min(cores(), len(parts)) > 1:
        # Groups the rows once for all processes.
        if not results.debug and len(results.plan):
            cells(results)
        # A forked process has the loaded store and the imported modules. Elsewhere than on Linux system libraries do not survive a fork.
        context = multiprocessing.get_context("fork" if sys.platform == "linux" else "spawn")
        with ProcessPoolExecutor(min(cores(), len(parts)), context, _start, (results,)) as pool:
            try:
                found: Iterator[tuple[Made, list[str]]] = pool.map(_Make(make), parts)
                for one, damage in found:
                    results.damage.extend(sentence for sentence in damage if sentence not in results.damage)
                    done += 1
                    yield one
            # A process was killed, for example because memory ran out; one process at a time needs less.
            except BrokenProcessPool:
                pass
            finally:
                # After an error the parts that have not begun are not made.
                pool.shutdown(wait=False, cancel_futures=True)
    yield from (make(results, part) for part in parts[done:])


def _start(results: Results) -> None:
    global _results
    _results = results
    # Ctrl-C ends the processes without tracebacks; the parent reports it.
    signal.signal(signal.SIGINT, signal.SIG_DFL)


class _Make:
    """Calls `make` in a worker process and returns the damage that it found as well."""

    def __init__(self, make: Callable[[Results, Part], Made]) -> None:
        self._make = make

    def __call__(self, part: Part) -> tuple[Made, list[str]]:
        assert _results is not None
        return self._make(_results, part), _results.damage  # type: ignore[return-value,arg-type]
