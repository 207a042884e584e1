"""Effect of the last of the recipe's 350 epochs: accuracy and SAP's result if training had stopped earlier.

`python -m benchmarks.recipe_tail --data DIR [--dataset cifar10] [--network vgg11_bn] [--width 0.125] [--dropout 0] [--images 5000]`

The recipe halves its rate every 11 epochs and the rate depends on the epoch only, so the network after epoch 120 of 350 is, bit for bit,
the result of a training of 120 epochs. One training per seed is therefore evaluated at several epochs: the uncorrected scores, and SAP's 16
settings with the choice by the given labels of the validation set. Prints one JSON line per seed and epoch, then a table. No times are
measured.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from sap_core.api import State
from sap_core.cost import CostMeter
from sap_core.data.assemble import AssembledTask, assemble_task
from sap_core.evaluation.evaluator import Evaluator
from sap_core.evaluation.family import run_family
from sap_core.run import PlainRun
from sap_core.sap.sap import SAP
from trainers.sgd import SGD

ALPHAS = (3e5, 2.5e5, 2e5, 1.5e5, 1e5, 7e4, 5e4, 4e4, 3e4, 2e4, 1.5e4, 1e4, 7e3, 5e3, 3e3, 2e3)
DATASETS = {
    "cifar10": "sap_core.data.cifar10.CIFAR10",
    "fashion_mnist": "sap_core.data.fashion_mnist.FashionMNIST",
    "digits": "sap_core.data.digits.Digits",
}
NETWORKS = {
    "vgg11_bn": "sap_core.models.vgg.VGG11_BN",
    "resnet18": "sap_core.models.resnet_cifar.ResNet18",
    "lenet5": "sap_core.models.lenet5.LeNet5",
    "small_cnn": "sap_core.models.small_cnn.SmallCNN",
}


@dataclass(frozen=True)
class Scores:
    """Scores of a training that ends at `epoch`."""

    seed: int
    epoch: int
    loss: float
    train_acc: float | None  # on the given labels
    val_noisy_acc: float | None
    test_acc: float | None
    sap_alpha: float | None  # chosen by val_noisy_acc; None: the unmodified network
    sap_test_acc: float | None
    sap_test_accs: tuple[float | None, ...]  # of all settings


class EvaluatingRun(PlainRun):
    """A run that calls `look` after some epochs."""

    def __init__(self, epochs: Sequence[int], look: Callable[[int, nn.Module, float], None]) -> None:
        super().__init__()
        self._epochs, self._look = epochs, look

    def end_epoch(self, number: int, model: nn.Module, state: Callable[[], State], kept: Tensor | None = None, **scalars: float) -> None:
        super().end_epoch(number, model, state, kept, **scalars)
        if number in self._epochs:
            self._look(number, model, scalars["loss"])  # sets evaluation mode; the loop sets train mode at each epoch's start


def evaluated(
    prepared: AssembledTask, evaluator: Evaluator, model: nn.Module, num_trusted: int, seed: int, epoch: int, loss: float
) -> Scores:
    model.eval()
    scores = evaluator.score_baseline(model, CostMeter())
    settings = [SAP(alpha=alpha, num_trusted=num_trusted) for alpha in ALPHAS]
    run = PlainRun(len(settings))
    by_alpha: dict[int, dict[str, Any]] = {}
    for outcome in run_family(
        settings, model, prepared.task, run, lambda candidate, which: evaluator.score_corrected(candidate, run.meter, which)
    ):
        by_alpha[outcome.which] = outcome.scores
    best, chosen = scores["val_noisy_acc"] or 0.0, None
    for which in range(len(settings)):  # mildest first; the earlier wins ties, and the unmodified network wins over all
        if (by_alpha[which].get("val_noisy_acc") or 0.0) > best:
            best, chosen = by_alpha[which]["val_noisy_acc"], which
    sap_test = scores["test_acc"] if chosen is None else by_alpha[chosen]["test_acc"]
    return Scores(
        seed, epoch, loss, scores["train_acc"], scores["val_noisy_acc"], scores["test_acc"],
        None if chosen is None else ALPHAS[chosen], sap_test, tuple(by_alpha[which].get("test_acc") for which in range(len(settings))),
    )  # fmt: skip


def one_seed(options: argparse.Namespace, seed: int) -> list[Scores]:
    subset = {"images": options.images} if options.images else {}
    given = {"width": (options.width, 1.0), "dropout": (options.dropout, 0.5)}
    model = {name: value for name, (value, usual) in given.items() if value != usual}
    spec = {
        "dataset": {"target": DATASETS[options.dataset], "settings": {"verify": False} | subset},
        "noise": {"target": "sap_core.data.noise.symmetric.Symmetric", "settings": {"rate": options.rate}},
        "model": {"target": NETWORKS[options.network], "settings": model},
        "preprocess": {"normalise": True, "augment": options.augment, "padding": 4},
        "seed": seed, "limit": None,
    }  # fmt: skip
    prepared = assemble_task(spec, options.data, torch.device(options.device))
    evaluator, found = Evaluator(prepared), []

    def look(epoch: int, model: nn.Module, loss: float) -> None:
        found.append(evaluated(prepared, evaluator, model, options.trusted, seed, epoch, loss))
        print(json.dumps(asdict(found[-1])), flush=True)

    recipe = SGD(epochs=max(options.epochs), learning_rate=options.rate_of_learning)
    recipe.fit(prepared.task, EvaluatingRun(options.epochs, look))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.recipe_tail", description="Effect of the recipe's last epochs.")
    parser.add_argument("--data", type=Path, default=Path("data"), help="folder of the data sets")
    parser.add_argument("--dataset", choices=DATASETS, default="cifar10")
    parser.add_argument("--network", choices=NETWORKS, default="vgg11_bn")
    parser.add_argument("--width", type=float, default=0.125)
    parser.add_argument("--dropout", type=float, default=0.5, help="of a VGG; the recipe's is 0.5, with which a narrow network underfits")
    parser.add_argument("--images", type=int, default=5000)
    parser.add_argument("--rate", type=float, default=0.25, help="share of wrong labels (symmetric)")
    parser.add_argument("--rate-of-learning", type=float, default=0.01, help="the recipe's is 0.01")
    parser.add_argument("--augment", default="crop_flip", choices=("none", "flip", "crop_flip"))
    parser.add_argument("--trusted", type=int, default=500)
    parser.add_argument("--epochs", type=int, nargs="+", default=[60, 90, 120, 150, 200, 350])
    parser.add_argument("--seeds", type=int, nargs="+", default=[12484, 32087, 35416])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--quick", action="store_true", help="tiny sizes, to check that it runs")
    options = parser.parse_args()
    if options.quick:
        options.dataset, options.network, options.images, options.width = "digits", "small_cnn", None, 1
        options.epochs, options.seeds, options.trusted, options.augment = [2, 3], options.seeds[:1], 50, "none"
    torch.set_num_threads(1)
    results = [each for seed in options.seeds for each in one_seed(options, seed)]
    show(results)


def show(results: Sequence[Scores]) -> None:
    """Prints means over seeds, and the difference of an earlier end to the last epoch for each seed."""
    last = {each.seed: each for each in results if each.epoch == max(each.epoch for each in results)}
    for epoch in sorted({each.epoch for each in results}):
        here = [each for each in results if each.epoch == epoch]
        means = {name: statistics.mean(100 * getattr(each, name) for each in here) for name in ("train_acc", "test_acc", "sap_test_acc")}
        plain = [100 * (each.test_acc - last[each.seed].test_acc) for each in here]
        sap = [100 * (each.sap_test_acc - last[each.seed].sap_test_acc) for each in here]
        print(
            f"epoch {epoch:4d}: given labels {means['train_acc']:.2f} %, test {means['test_acc']:.2f} % "
            f"({', '.join(f'{value:+.2f}' for value in plain)} against the last), with SAP {means['sap_test_acc']:.2f} % "
            f"({', '.join(f'{value:+.2f}' for value in sap)})"
        )


if __name__ == "__main__":
    main()
