"""Families with shared work against their settings one by one: 15 settings of SCRUB's grid A, finetune's epochs, SSD's importances.

`python -m benchmarks.scrub [--repeats 3] [--quick]`; some minutes. CPU seconds of training only: phase `correct` for SCRUB and finetune
(the teacher's pass is excluded on both sides, as if its logits were stored), `collect` and `correct` for SSD. Random images.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable, Sequence
from copy import deepcopy

import torch
from torch import Tensor, nn

from baselines.finetune import Finetune
from baselines.scrub import SCRUB, tree
from baselines.ssd import SSD
from benchmarks.sap_end_to_end import CpuMeter
from sap_core.api import Corrector, Need, Samples, Task
from sap_core.data.samples import Preprocess, SampleView, TensorPixels
from sap_core.models.lenet5 import LeNet5
from sap_core.models.vgg import VGG11_BN
from sap_core.run import PlainRun

EPOCHS, MSTEPS = (3, 4, 5, 7, 10), (1, 2, 3)


def task(build: Callable[[], nn.Module], shape: tuple[int, int, int], retain: int, forget: int) -> tuple[nn.Module, Task]:
    """Returns a fresh network and a task of random images with random labels, some of which are verified."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model, count = build().eval(), retain + forget
        pixels, labels = torch.randint(256, (count, *shape), dtype=torch.uint8), torch.randint(10, (count,))
    preprocess = Preprocess((0.5,) * shape[0], (0.25,) * shape[0])
    samples = SampleView(TensorPixels(pixels), torch.arange(count), labels, preprocess, torch.device("cpu"))
    verified = {Need.RETAIN: torch.arange(retain), Need.FORGET: torch.arange(retain, count)}

    def source(need: Need, n: int | None) -> Samples:
        return samples.subset(verified[need][:n])

    task = Task(samples, samples, lambda k: model, "classification", 10, 12484, torch.device("cpu"), verified_source=source)
    return model, task.allow(frozenset({Need.RETAIN, Need.FORGET}))


def corrected(settings: Sequence[Corrector], model: nn.Module, task: Task, phases: Sequence[str]) -> tuple[float, list[dict[str, Tensor]]]:
    """Returns CPU seconds of the phases, and the weights of every setting."""
    run = PlainRun(len(settings))
    run.meter = CpuMeter(len(settings))
    states: list[dict[str, Tensor]] = [{} for _ in settings]
    for which, network in type(settings[0]).correct(settings, model, task, run):
        states[which] = deepcopy(network.state_dict())
    return sum(piece.seconds for piece in run.meter.records if piece.phase in phases), states


def compare(name: str, settings: Sequence[Corrector], model: nn.Module, task: Task, phases: Sequence[str], repeats: int) -> None:
    """Measures the family and its settings one by one, alternating; prints medians."""
    together, apart, same = [], [], True
    for _ in range(repeats):
        seconds, states = corrected(settings, model, task, phases)
        singles = [corrected([setting], model, task, phases) for setting in settings]
        together.append(seconds)
        apart.append(sum(taken for taken, _ in singles))
        for one, (_, (other,)) in zip(states, singles, strict=True):
            same &= all(torch.equal(value, other[key]) for key, value in one.items())
    shared, separate = statistics.median(together), statistics.median(apart)
    bits = "bit-identical weights" if same else "DIFFERENT WEIGHTS"
    ratio = f"family {shared:.2f} s, one by one {separate:.2f} s (x{separate / shared:.2f})"
    print(f"    {name}, {len(settings)} settings: {ratio}, {bits}", flush=True)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="tiny sizes, to check that it runs")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    cases: dict[str, tuple[Callable[[], nn.Module], tuple[int, int, int], int, int, int]] = {
        "LeNet5, 28 x 28": (lambda: LeNet5(10, (1, 28, 28)), (1, 28, 28), 1000, 200, options.repeats),
        "VGG11_BN, 32 x 32": (lambda: VGG11_BN(10, (3, 32, 32)), (3, 32, 32), 16, 8, 1),
    }
    if options.quick:
        cases = {"LeNet5, 28 x 28": (lambda: LeNet5(10, (1, 28, 28)), (1, 28, 28), 8, 4, 1)}
    first = [SCRUB(epochs=epochs, msteps=msteps) for epochs in EPOCHS for msteps in MSTEPS]
    print(f"SCRUB: {len(tree(first))} epochs over the retain samples shared, {sum(setting.epochs for setting in first)} one by one")
    for title, (build, shape, retain, forget, repeats) in cases.items():
        model, made = task(build, shape, retain, forget)
        print(f"{title}, {retain} retain and {forget} forget samples:")
        scrub = [
            SCRUB(epochs=epochs, msteps=msteps, num_retain=retain, num_forget=forget, retain_batch=32, forget_batch=16)
            for epochs in EPOCHS
            for msteps in MSTEPS
        ]
        compare("SCRUB", scrub, model, made, ("correct",), repeats)
        compare("Finetune", [Finetune(epochs=n, num_retain=retain) for n in (1, 5, 10)], model, made, ("correct",), repeats)
        dampened = [SSD(selection, num_retain=retain, num_forget=forget, batch_size=32) for selection in (1e3, 1e2, 1e1, 1.0, 0.1)]
        compare("SSD", dampened, model, made, ("collect", "correct"), repeats)


if __name__ == "__main__":
    main()
