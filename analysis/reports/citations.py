"""The references of what a store used, from one file of BibTeX entries that say what they are for."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.resources import files

from analysis.store.load import Results

USED = ("method", "dataset", "noise", "network", "trainer", "pruner")
"""The columns whose values are cited."""

OWN = frozenset(
    {
        "method/vanilla", "method/retrain", "method/finetune", "dataset/folder", "dataset/table", "dataset/tensors", "noise/none",
        "noise/symmetric", "noise/classifier", "noise/linear_targets", "noise/sign_flip", "noise/outliers", "network/small_cnn",
        "network/linear5", "network/perceptron_bn", "network/torchvision", "trainer/sgd", "trainer/given", "pruner/uniform",
    }
)  # fmt: skip
"""What is shipped and has no paper of its own."""

ALWAYS = ("tool/sap-sweep",)


@dataclass(frozen=True)
class Entry:
    """One BibTeX entry and what it is cited for, as KIND/NAME."""

    key: str
    uses: frozenset[str]
    text: str


def entries() -> tuple[Entry, ...]:
    """All entries of the file, in its order."""
    text = files("analysis").joinpath("references.bib").read_text(encoding="utf-8")
    found = []
    for block in re.split(r"\n\s*\n", text):
        uses = frozenset(word for line in re.findall(r"^% for:(.*)$", block, re.M) for word in line.split())
        entry = re.search(r"^@\w+\{([^,\s]+),\n.*?^\}$", block, re.M | re.S)
        if entry:
            found.append(Entry(entry[1], uses, entry[0]))
    return tuple(found)


def used(results: Results) -> tuple[str, ...]:
    """What the plan and the rows name, as KIND/NAME, sorted within each kind."""
    found = []
    for kind in USED:
        frames = [frame[kind] for frame in (results.plan, results.rows) if kind in frame.columns]
        found += sorted({f"{kind}/{value}" for frame in frames for value in frame.dropna().unique()})
    return tuple(found)


def bibliography(names: Iterable[str]) -> tuple[str, tuple[str, ...]]:
    """(the .bib file's text, the names without a reference that are not this project's own)."""
    wanted = [*names, *ALWAYS]
    known = entries()
    served = {use for entry in known for use in entry.uses}
    lacking = tuple(name for name in wanted if name not in served and name not in OWN)
    lines = ["% What the store used: written by sap-report STORE cite. Fields that were not confirmed are left out."]
    lines += [f"% no reference is known for {_plain(name)}" for name in lacking]
    blocks = [f"% for: {' '.join(sorted(entry.uses & set(wanted)))}\n{entry.text}" for entry in known if entry.uses & set(wanted)]
    return "\n".join(lines) + "\n\n" + "\n\n".join(blocks) + "\n", lacking


def _plain(name: str) -> str:
    """A name that cannot end its comment line or begin an entry."""
    return re.sub(r"[\s@{}]+", " ", name)
