"""Collects the references of the methods, data sets, networks and tools that a store used, from `analysis/references.bib`.

Each entry of the file is preceded by comment lines `% for: KIND/NAME ...` that name the components that cite it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.resources import files

from analysis.store.load import Results

USED = ("method", "dataset", "noise", "network", "trainer", "pruner")
"""Columns of rows and plan whose values are cited."""

OWN = frozenset(
    {
        "method/vanilla", "method/retrain", "method/finetune", "dataset/folder", "dataset/table", "dataset/tensors", "noise/none",
        "noise/symmetric", "noise/classifier", "noise/linear_targets", "noise/sign_flip", "noise/outliers", "network/small_cnn",
        "network/linear5", "network/perceptron_bn", "network/torchvision", "trainer/sgd", "trainer/given", "pruner/uniform",
    }
)  # fmt: skip
"""Components of this project that have no paper of their own."""

ALWAYS = ("tool/sap-sweep",)
"""Cited for every store."""


@dataclass(frozen=True)
class Entry:
    """One BibTeX entry and the components that cite it, as KIND/NAME."""

    key: str
    uses: frozenset[str]
    text: str


def entries() -> tuple[Entry, ...]:
    """All entries of the file, in its order."""
    text = files("analysis").joinpath("references.bib").read_text(encoding="utf-8")
    found = []
    # Blocks are separated by empty lines; a comment above an entry belongs to its block.
    for block in re.split(r"\n\s*\n", text):
        uses = frozenset(word for line in re.findall(r"^% for:(.*)$", block, re.M) for word in line.split())
        # An entry ends with a brace on a line of its own, so braces within fields need no counting.
        entry = re.search(r"^@\w+\{([^,\s]+),\n.*?^\}$", block, re.M | re.S)
        if entry:
            found.append(Entry(entry[1], uses, entry[0]))
    return tuple(found)


def used(results: Results) -> tuple[str, ...]:
    """The components that occur in the plan or the rows, as KIND/NAME, sorted within each kind."""
    found = []
    for kind in USED:
        # The plan and the rows: a component may be planned and not have run, or have run under an earlier plan.
        frames = [frame[kind] for frame in (results.plan, results.rows) if kind in frame.columns]
        found += sorted({f"{kind}/{value}" for frame in frames for value in frame.dropna().unique()})
    return tuple(found)


def bibliography(names: Iterable[str]) -> tuple[str, tuple[str, ...]]:
    """The text of the .bib file, and the names that lack a reference and are not this project's own."""
    wanted = [*names, *ALWAYS]
    known = entries()
    served = {use for entry in known for use in entry.uses}
    lacking = tuple(name for name in wanted if name not in served and name not in OWN)
    lines = [
        "% References of the components that the store used, written by sap-report STORE cite. Fields that were not confirmed are left out."
    ]
    # A missing reference is named in the file, where an author will see it.
    lines += [f"% no reference is known for {_plain(name)}" for name in lacking]
    # The comment names only the components of this store.
    blocks = [f"% for: {' '.join(sorted(entry.uses & set(wanted)))}\n{entry.text}" for entry in known if entry.uses & set(wanted)]
    return "\n".join(lines) + "\n\n" + "\n\n".join(blocks) + "\n", lacking


def _plain(name: str) -> str:
    """Replaces characters that would end the comment line or start an entry."""
    return re.sub(r"[\s@{}]+", " ", name)
