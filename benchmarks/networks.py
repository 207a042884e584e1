"""Which weights SAP corrects in networks of torchvision and timm, and whether the result is right: writes docs/networks.md.

`python -m benchmarks.networks [--only PATTERN] [--results FILE] [--quick]`; half an hour on one core, without downloads. Each network has
random weights (float64) and sees two random images. Right means: the outputs of the corrected network equal those of the unmodified
network in which the *inputs* of every corrected weight are projected instead (`benchmarks.projected_inputs`). A network whose weights are
refused, or whose outputs differ, counts as one that does not work.
"""

from __future__ import annotations

import argparse
import ast
import csv
import fnmatch
import json
import time
import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.projected_inputs import projected_outputs
from sap_core import sap_project
from sap_core.sap.weights import classify

PAGE = Path(__file__).parents[1] / "docs" / "networks.md"
LIST = Path(__file__).with_suffix(".csv")
"""library, family, network, side of the images, options of the constructor."""
ALPHA = 20.0
TOLERANCE = 1e-6
"""Largest deviation of an output, relative to the largest output of the unmodified network; correct networks reach 1e-9."""


@dataclass(frozen=True)
class Network:
    """A family and its smallest member."""

    library: str
    family: str
    name: str
    size: int = 64
    options: Mapping[str, Any] = field(default_factory=dict)

    def build(self) -> nn.Module:
        """Return the network with random weights, in float64 and evaluation mode."""
        torch.manual_seed(0)
        if self.library == "torchvision":
            from torchvision.models import get_model

            model: nn.Module = get_model(self.name, weights=None, num_classes=10, **self.options)
        else:
            import timm

            model = timm.create_model(self.name, pretrained=False, num_classes=10, **self.options)
        for parameter in model.parameters():
            # Heads that start at or near zero, scales of residual branches and norms: with these the layers behind them have no effect.
            if parameter.numel() > 1 and parameter.std() < 1e-3:
                parameter.data += 0.1 * torch.randn(parameter.shape)
        return model.double().eval()

    def images(self) -> Tensor:
        """Return two random images."""
        return torch.randn(2, 3, self.size, self.size, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def networks() -> list[Network]:
    """Return the networks of the table."""
    with LIST.open(newline="", encoding="utf-8") as file:
        return [
            Network(row["library"], row["family"], row["network"], int(row["side"]), dict(map(_option, row["options"].split())))
            for row in csv.DictReader(file)
        ]


def _option(text: str) -> tuple[str, Any]:
    key, _, value = text.partition("=")
    return key, ast.literal_eval(value)


@dataclass(frozen=True)
class Outcome:
    """What SAP does with a network. Counts are of parameters (weights of attention that share one count one by one)."""

    network: Network
    corrected: int
    left: int
    unreached: int
    refused: int
    reason: str = ""
    deviation: float | None = None  # of the outputs, relative to the largest

    @property
    def works(self) -> bool:
        """Whether nothing is refused and the outputs are right."""
        return self.refused == 0 and self.deviation is not None and self.deviation < TOLERANCE


@torch.no_grad()
def examine(network: Network) -> Outcome:
    """Classify the weights of a network, correct it, and compare it with projected inputs."""
    model, images = network.build(), network.images()
    found = classify(model, images)
    counts = len(found.sites), len(found.left), len(found.unreached), len(found.refused)
    if found.refused:
        reasons = Counter(found.refused.values()).most_common()
        return Outcome(network, *counts, "; ".join(f"{reason} ({count})" for reason, count in reasons))
    vanilla = model(images)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        corrected = sap_project(model, images, ALPHA)(images)
    expected = projected_outputs(model, images, {site.region.parameter for site in found.sites.values()}, ALPHA)
    scale = vanilla.abs().max()
    deviation = float((corrected - expected).abs().max() / scale)
    changed = float((corrected - vanilla).abs().max() / scale)
    reason = "" if changed > 100 * deviation else "the correction changes no output"
    return Outcome(network, *counts, reason, deviation if not reason else None)


HEAD = """# Networks

Which weights SAP corrects in the smallest network of each family, and which it leaves: `python -m benchmarks.networks`, with random weights
and two random images; the list is `benchmarks/networks.csv`.

- *corrected*: weights that are multiplied with activations as a matrix. The other columns count parameters of two or more dimensions.
- *left*: parameters that are added or multiplied element by element, or that multiply constants only.
- *not reached*: parameters of layers that no pass in evaluation mode reaches (auxiliary heads). They are left, with a warning.
- *refused*: parameters of any other kind, which need the option `leave` ([adding.md](adding.md)).
- *checked*: the largest difference between the outputs of the corrected network and those of the unmodified network in which the *inputs*
  of every corrected weight are projected, relative to the largest output (float64). A family works if nothing is refused and this is
  below 1e-6.
"""


def page(outcomes: Sequence[Outcome]) -> str:
    """Return the text of docs/networks.md."""
    import timm
    import torchvision

    versions = {"torchvision": torchvision.__version__.split("+")[0], "timm": timm.__version__}
    lines = [HEAD, *(summary(library, version, outcomes) for library, version in versions.items())]
    for library in versions:
        lines += ["", f"## {library}", "", "| family | network | side | corrected | left | not reached | refused | checked |"]
        lines += ["| :--- | :--- | ---: | ---: | ---: | ---: | ---: | :--- |"]
        for each in outcomes:
            if each.network.library == library:
                counts = f"{each.corrected} | {each.left} | {each.unreached} | {each.refused}"
                checked = each.reason or f"{each.deviation:.0e}"
                lines.append(f"| {each.network.family} | {each.network.name} | {each.network.size} | {counts} | {checked} |")
    return "\n".join(lines) + "\n"


def summary(library: str, version: str, outcomes: Sequence[Outcome]) -> str:
    """Return one line: how many families of a library work."""
    own = [each for each in outcomes if each.network.library == library]
    works = sum(each.works for each in own)
    return f"- **{library} {version}**: {works} of {len(own)} families work ({works / max(1, len(own)):.0%})."


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="*", help="pattern of names of networks; the page is not written")
    parser.add_argument("--results", type=Path, help="file of finished networks (JSON lines), which are not examined again")
    parser.add_argument("--quick", action="store_true", help="one small network, to check that it runs")
    options = parser.parse_args(arguments)
    pattern = "shufflenet_v2_x0_5" if options.quick else options.only
    torch.set_num_threads(1)
    known = (
        [json.loads(line) for line in options.results.read_text(encoding="utf-8").splitlines()]
        if options.results and options.results.exists()
        else []
    )
    done = {each.pop("name"): each for each in known}
    outcomes = []
    for network in (each for each in networks() if fnmatch.fnmatch(each.name, pattern)):
        start = time.perf_counter()
        found = Outcome(network, **done[network.name]) if network.name in done else examine(network)
        outcomes.append(found)
        if network.name in done:
            continue
        print(
            f"{time.perf_counter() - start:6.1f} s  {network.name}: {'works' if found.works else found.reason or found.deviation}",
            flush=True,
        )
        if options.results:
            fields = {"name": network.name, **{key: value for key, value in vars(found).items() if key != "network"}}
            with options.results.open("a", encoding="utf-8") as file:
                file.write(json.dumps(fields) + "\n")
    if pattern == "*":
        PAGE.write_text(page(outcomes), encoding="utf-8")


if __name__ == "__main__":
    main()
