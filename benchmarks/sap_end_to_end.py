"""SAP's search for alpha on VGG11_BN, end to end: seconds per stage, and against the released code's way (`plain_sap`).

`python -m benchmarks.sap_end_to_end --data DIR` runs sap_core only at full size (1,000 trusted, 16 alphas, 5,000 validation images),
`... --trusted 200 --val 1000 --plain` measures the ratio. DIR contains `cifar-10-batches-py`; without it, scikit-learn's digits are used,
enlarged to 32 x 32. The network is trained for --steps steps on labels of which a quarter are wrong; `--network FILE` stores it for reuse.

CPU seconds of one thread. The selection of the trusted samples is excluded on both sides. The plain way's cost of an alpha does not depend
on the alpha, so it is measured for --plain-alphas of them and scaled; one forget set is used for the second one, counted separately.
"""

from __future__ import annotations

import argparse
import functools
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

import torch
from safetensors.torch import load_model, save_model
from torch import Tensor, nn
from torch.nn import functional

from benchmarks import plain_sap
from sap_core.api import Samples, Task
from sap_core.cost import CostMeter
from sap_core.data.cifar10 import CIFAR10
from sap_core.data.digits import Digits
from sap_core.data.samples import Preprocess, SampleView, TensorPixels
from sap_core.models.modes import evaluating
from sap_core.models.small_cnn import SmallCNN
from sap_core.models.vgg import VGG11_BN
from sap_core.run import PlainRun
from sap_core.sap.sap import SAP

ALPHAS = (3e5, 2.5e5, 2e5, 1.5e5, 1e5, 7e4, 5e4, 4e4, 3e4, 2e4, 1.5e4, 1e4, 7e3, 5e3, 3e3, 2e3)
BATCH, EVALUATION_BATCH, WRONG, SEED = 100, 512, 0.25, 12484
Result = TypeVar("Result")
Measured = tuple[dict[str, float], list[nn.Module], Tensor]


class CpuMeter(CostMeter):
    """Records CPU time instead of wall time."""

    def _now(self) -> float:
        return time.process_time()


def real_images(folder: Path | None) -> tuple[str, SampleView, SampleView]:
    """Returns a name, and training and test images of 32 x 32 pixels in three channels."""
    if folder is not None:
        source, what = CIFAR10(verify=False).load(folder), "CIFAR-10"
        preprocess, channels, scale = Preprocess(CIFAR10.mean, CIFAR10.std), 3, 1
    else:
        digits = Digits()
        source, what = digits.load(Path()), "digits enlarged to 32 x 32"
        preprocess, channels, scale = Preprocess(digits.mean * 3, digits.std * 3), 1, 4
    views = []
    for pixels, labels in ((source.train, source.train_labels), (source.test, source.test_labels)):
        tensor = pixels.fetch(torch.arange(len(pixels)))
        tensor = tensor.repeat_interleave(scale, 2).repeat_interleave(scale, 3).repeat(1, 3 // channels, 1, 1)
        views.append(SampleView(TensorPixels(tensor), torch.arange(len(tensor)), labels, preprocess, torch.device("cpu")))
    return what, views[0], views[1]


def some(samples: SampleView, start: int, count: int) -> SampleView:
    """Returns `count` samples from `start`, wrapping around at the end."""
    return samples.subset(torch.arange(start, start + count) % len(samples))


def tensors(samples: Samples) -> tuple[Tensor, Tensor]:
    """Returns preprocessed inputs and labels."""
    batches = list(samples.batches(EVALUATION_BATCH))
    return torch.cat([batch.inputs for batch in batches]), torch.cat([batch.labels for batch in batches])


def train(model: nn.Module, samples: SampleView, steps: int, generator: torch.Generator) -> None:
    """Plain SGD on batches of 64, a quarter of their labels replaced at random."""
    wrong = torch.rand(len(samples), generator=generator) < WRONG
    labels = torch.where(wrong, torch.randint(10, (len(samples),), generator=generator), samples.labels)
    samples, optimiser = samples.relabel(labels), torch.optim.SGD(model.parameters(), 0.02, momentum=0.9, weight_decay=5e-4)
    model.train()
    for _ in range(steps):
        (batch,) = samples.subset(torch.randint(len(samples), (64,), generator=generator)).batches(64)
        optimiser.zero_grad()
        functional.cross_entropy(model(batch.inputs), batch.labels).backward()
        optimiser.step()


def product(model: nn.Module, task: Task, alphas: Sequence[float], count: int) -> Measured:
    """Returns CPU seconds by stage, the corrected networks, and the trusted images."""
    images, labels = tensors(task.val)
    run = PlainRun(len(alphas))
    run.meter = CpuMeter(len(alphas))
    settings = [SAP(alpha, count, "uniform", batch_size=min(BATCH, count)) for alpha in alphas]
    networks = []
    for which, network in SAP.correct(settings, model, task, run):
        with run.meter("evaluate", [which]), evaluating(network):
            plain_sap.accuracy(network, images, labels, EVALUATION_BATCH)
        networks.append(network)
    seconds: dict[str, float] = {}
    for piece in run.meter.records:
        seconds[piece.phase] = seconds.get(piece.phase, 0.0) + piece.seconds
    seconds.pop("select")
    return seconds, networks, run.trusted_sets[0]


def timed(taken: dict[str, float], stage: str, call: Callable[[], Result]) -> Result:
    """Returns the result of `call` and adds its CPU seconds to the stage."""
    start = time.process_time()
    result = call()
    taken[stage] = taken.get(stage, 0.0) + time.process_time() - start
    return result


def plain(
    model: nn.Module, trusted: Tensor, held_out: tuple[Tensor, Tensor], alphas: Sequence[float]
) -> tuple[dict[str, float], list[nn.Module]]:
    """Returns CPU seconds of the stages for one sample set and one alpha, and the corrected networks."""
    taken: dict[str, float] = {}
    columns = timed(taken, "collect", lambda: plain_sap.collect(model, trusted, BATCH))
    spectra = timed(taken, "factor", lambda: plain_sap.spectra(columns))
    networks = []
    for alpha in alphas:
        network = timed(taken, "build", functools.partial(plain_sap.corrected, model, spectra, spectra, alpha))
        timed(taken, "evaluate", functools.partial(plain_sap.accuracy, network, *held_out, EVALUATION_BATCH))
        networks.append(network)
    return taken | {stage: taken[stage] / len(alphas) for stage in ("build", "evaluate")}, networks


def compare(model: nn.Module, universe: SampleView, task: Task, test: SampleView, options: argparse.Namespace, ours: Measured) -> None:
    """Measures the plain way on the same trusted images and prints the ratios."""
    seconds, networks, trusted_index = ours
    images, _ = tensors(universe.subset(trusted_index))
    (val, val_labels), (rest, rest_labels) = tensors(task.val), tensors(test)
    held_out = torch.cat([val, rest]), torch.cat([val_labels, rest_labels])
    count = len(options.alphas)
    which = [count // 2, 0][: options.plain_alphas]
    taken, theirs = plain(model, images, held_out, [options.alphas[k] for k in which])
    build, evaluate = (count * taken[stage] for stage in ("build", "evaluate"))
    print(
        f"plain way: collect {taken['collect']:.1f} s, factor {taken['factor']:.1f} s (one sample set), build {build:.1f} s and evaluate "
        f"{evaluate:.1f} s (validation and test, {len(held_out[0])} images) for {count} alphas"
    )
    spectra, total = taken["collect"] + taken["factor"], sum(seconds.values())
    print(
        f"ratio of collection and spectra: {spectra / (seconds['collect'] + seconds['factor']):.1f} on one sample set, "
        f"{2 * spectra / (seconds['collect'] + seconds['factor']):.1f} against the released code's two"
    )
    print(f"ratio in total: {(2 * spectra + build + evaluate) / total:.1f} ({(spectra + build + evaluate) / total:.1f} on one sample set)")
    for k, network in zip(which, theirs, strict=True):
        alpha = options.alphas[k]
        distances = [
            float(torch.linalg.norm(a - b).detach() / torch.linalg.norm(b).detach())
            for (name, a), b in zip(network.named_parameters(), networks[k].parameters(), strict=True)
            if name.endswith("weight") and a.ndim > 1
        ]
        outputs = [net.eval()(images[:200]).argmax(1) for net in (network, networks[k])]
        same = float((outputs[0] == outputs[1]).double().mean())
        print(f"    alpha {alpha:g}: weights differ by {min(distances):.0e} to {max(distances):.0e}, {same:.1%} of predictions agree")


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="folder that contains cifar-10-batches-py")
    parser.add_argument("--trusted", type=int, default=1000)
    parser.add_argument("--val", type=int, default=5000)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--network", type=Path, help="file for the trained network")
    parser.add_argument("--plain", action="store_true", help="also measure the plain way (slow: use --trusted 200 --val 1000)")
    parser.add_argument("--plain-alphas", type=int, default=2, choices=(1, 2))
    parser.add_argument("--quick", action="store_true", help="a small network and tiny sizes, to check that it runs")
    options = parser.parse_args(arguments)
    options.alphas = ALPHAS
    if options.quick:
        options.alphas, options.trusted, options.val, options.steps, options.plain = ALPHAS[:3], 10, 30, 2, True
    torch.set_num_threads(1)
    generator = torch.Generator().manual_seed(SEED)
    what, images, test = real_images(options.data)
    val, pool = some(images, 0, options.val), some(images, options.val, max(1000, options.trusted))
    with torch.random.fork_rng():
        torch.manual_seed(SEED)
        model: nn.Module = SmallCNN(10, (3, 32, 32)) if options.quick else VGG11_BN(10, (3, 32, 32))
        if options.network and options.network.exists():
            load_model(model, options.network)
        else:
            train(model, some(images, options.val, len(images) - options.val), options.steps, generator)
            if options.network:
                save_model(model, str(options.network))
        model.eval()
        task = Task(pool, val, lambda k: model, "classification", 10, SEED, torch.device("cpu"))
        ours = product(model, task, options.alphas, options.trusted)
        print(f"{type(model).__name__} on {what}: {options.trusted} trusted, {len(options.alphas)} alphas, {options.val} validation images")
        print(
            "product: " + ", ".join(f"{stage} {taken:.1f} s" for stage, taken in ours[0].items()) + f"; total {sum(ours[0].values()):.1f} s"
        )
        if options.plain:
            compare(model, images, task, some(test, 0, 2 * options.val), options, ours)


if __name__ == "__main__":
    main()
