"""The table of networks: its counts are those of its rows, and some of its rows are computed again."""

from __future__ import annotations

import csv
import re
from pathlib import Path

import pytest

from benchmarks.networks import TOLERANCE, examine, networks

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "networks.md").read_text()
SHARE = {"torchvision": 0.95, "timm": 0.80}


def rows(library):
    """Network -> (refused, checked)."""
    section = PAGE.split(f"## {library}\n")[1].split("\n## ")[0]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in section.splitlines() if line.startswith("| ")][2:]
    return {cell[1]: (int(cell[6]), cell[7]) for cell in cells}


def works(refused, checked):
    return refused == 0 and re.fullmatch(r"\de-\d+", checked) is not None and float(checked) < TOLERANCE


@pytest.mark.parametrize("library", SHARE)
def test_the_counts_are_those_of_the_rows(library):
    found = rows(library)
    with (ROOT / "benchmarks" / "networks.csv").open(newline="") as file:
        listed = {row["network"] for row in csv.DictReader(file) if row["library"] == library}
    assert found.keys() == listed
    right = sum(works(*each) for each in found.values())
    assert f"{right} of {len(found)} families work" in PAGE
    assert right >= SHARE[library] * len(found)


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    ["shufflenet_v2_x0_5", "swin_v2_t", "googlenet", "convnextv2_atto", "tf_efficientnet_lite0", "cait_xxs24_224", "mobilevitv2_050"],
)
def test_the_outputs_are_those_of_projected_inputs(name):
    pytest.importorskip("timm")
    (network,) = (each for each in networks() if each.name == name)
    outcome = examine(network)
    assert outcome.works, outcome
    assert outcome.corrected > 10
