"""The page of the experiments: what the comment at the top of each file of `conf/experiment` says."""

from __future__ import annotations

import re

from docs.generate.comments import Commented, read
from docs.generate.components import described
from docs.generate.text import code, escaped, page, table
from sweeper.config.choices import choices, shipped_folder

_INTRO = (
    "From the files of `conf/experiment`, which list the cells, methods and settings. `sap-sweep experiment=NAME` runs one, `dry_run=true` "
    "prints its jobs and a forecast, `debug=smoke` runs it in miniature. Which one to start with: [experiments](../experiments.md)."
)


def experiments_page() -> str:
    """The page."""
    files = {path.stem: read(path) for path in sorted(choices(shipped_folder() / "experiment"))}
    overview = table(
        ("`experiment=`", "what it is", "cost"),
        ((f"[`{name}`](#{name})", escaped(file.summary), _cost(file)) for name, file in files.items()),
    )
    parts = []
    for name, file in files.items():
        methods = file.values.get("methods") or []
        parts += [f"## `{name}`", *filter(None, described(file))]
        parts += [f"Methods: {', '.join(map(code, methods))}."] if methods else []
    return page("Experiments", _INTRO, overview, *parts)


def _cost(file: Commented) -> str:
    """The first clause of what a file says about its cost."""
    (text,) = [text.partition(": ")[2] for text in file.paragraphs if re.match("Cost|Expected", text)][:1]
    return escaped(re.split(r"[;,:(]|\.(?: |$)", text)[0].strip())
