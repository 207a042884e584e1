"""Synthetic stores with the cells of the paper's experiments: few settings per search, scores near the published numbers."""

from __future__ import annotations

from itertools import product
from types import SimpleNamespace

import pytest

from analysis.reference.published import quotes

SEEDS = (12484, 32087, 35416)
SHIFTS = (-0.004, 0.0, 0.004)
INFORMATION = {
    "retrain": {"information": "oracle", "num_retain": 40000},
    "finetune": {"information": "oracle", "num_retain": 5000},
    "ssd": {"information": "oracle", "num_retain": 5000, "num_forget": 1000},
    "scrub": {"information": "oracle", "num_retain": 1000, "num_forget": 200},
    "sap": {"information": "scored", "num_trusted": 1000},
}
SPACES = {"retrain": "only", "finetune": "grid", "ssd": "grid", "scrub": "grid_a", "sap": "alpha16"}
OURS = {"asymmetric": "nonsymmetric_a", "hierarchical": "nonsymmetric_b"}


def add_cell(maker, *, dataset, noise, rate, network, trainer="sgd", vanilla, methods, experiment="table1", seeds=SEEDS, spaces=SPACES):
    """One cell on all seeds; `methods` maps a method to its test accuracy in percent."""
    cell = f"{dataset}/{noise}-{rate}/{network}/{trainer}"
    where = {
        "dataset": dataset,
        "noise": noise,
        "noise_rate": rate,
        "network": network,
        "cell": cell,
        "experiment": experiment,
        "trainer": trainer,
    }
    for seed, shift in zip(seeds, SHIFTS, strict=False):
        base = f"{cell}-{seed}".replace("/", "_")
        before = vanilla / 100 + shift
        maker.baseline(
            seed,
            before - 0.2,
            before,
            before,
            run_id=base,
            sample_forwards=1e6,
            sample_backwards=1e6,
            flops=4e15,
            standalone_flops=4e15,
            **where,
        )
        for method, test in methods.items():
            settings = (
                [{}]
                if method == "retrain"
                else [{"alpha": 30000.0}, {"alpha": 10000.0}]
                if method == "sap"
                else [{"lr": 0.1}, {"lr": 0.01}]
            )
            score = test / 100 + shift
            for position, setting in enumerate(settings):
                mine = score - 0.01 * position
                maker.add(
                    f"{base}-{method}-{position}", job_type="tune", method=method, seed=seed, baseline_id=base, space=spaces[method],
                    position=position, settings=setting, job_id=f"{base}-{method}", val_noisy_acc=mine - 0.1, val_clean_acc=mine + 0.01,
                    test_acc=mine, tuning_seconds=1.0, flops=1e14, standalone_flops=2e14, **where, **INFORMATION[method],
                )  # fmt: skip


def table1(maker, datasets=("cifar10", "cifar100"), without=()):
    """The 16 cells of table 1, at the published means (asymmetric takes those of nonsymmetric_a)."""
    kinds = [("vgg11_bn", "symmetric"), ("resnet18", "symmetric"), ("resnet18", "asymmetric"), ("resnet18", "hierarchical")]
    for dataset, (network, noise), rate in product(datasets, kinds, (0.10, 0.25)):
        if (dataset, network, noise, rate) in without:
            continue
        about = {"dataset": dataset, "network": network, "noise": OURS.get(noise, noise), "noise_rate": rate}
        means = {str(quote.about["method"]): quote.mean for quote in quotes("table1") if quote.is_about(about)}
        vanilla = means.pop("vanilla")
        add_cell(maker, dataset=dataset, noise=noise, rate=rate, network=network, vanilla=vanilla, methods=means)
    return maker


def table2(maker):
    """The ten cells of table 2."""
    for dataset, trainer in product(("cifar10", "cifar100"), ("sgd", "logit_clip", "mixup", "sam", "mentormix")):
        means = {
            str(quote.about["method"]): quote.mean for quote in quotes("table2") if quote.is_about({"dataset": dataset, "trainer": trainer})
        }
        add_cell(
            maker, dataset=dataset, noise="symmetric", rate=0.25, network="resnet18", trainer=trainer, vanilla=means["vanilla"],
            methods={"sap": means["sap"]}, experiment="table2",
        )  # fmt: skip
    return maker


def table3(maker):
    """The three cells of table 3."""
    for dataset, network in (("mini_webvision", "inception_resnet_v2"), ("clothing1m", "resnet50_imagenet"), ("clothing1m", "vit_b_16")):
        means = {
            str(quote.about["method"]): quote.mean for quote in quotes("table3") if quote.is_about({"dataset": dataset, "network": network})
        }
        add_cell(
            maker, dataset=dataset, noise="none", rate=0.0, network=network, vanilla=means["vanilla"], methods={"sap": means["sap"]},
            experiment="table3",
        )  # fmt: skip
    return maker


def ablation(maker, name: str):
    """One of the three ablations, at the published means: `alpha_curve`, `alpha16_size5`, or one space per strategy."""
    for dataset, network in product(("cifar10", "cifar100"), ("vgg11_bn", "resnet18")):
        cell = f"{dataset}/symmetric-0.25/{network}/sgd"
        found = [quote for quote in quotes(name) if quote.is_about({"dataset": dataset, "network": network})]
        for seed, shift in zip(SEEDS, SHIFTS, strict=True):
            where = {"dataset": dataset, "network": network, "cell": cell, "experiment": name, "trainer": "sgd"}
            base = maker.baseline(seed, 0.5, 0.6, 0.6, run_id=f"{cell}-{seed}".replace("/", "_"), **where)
            for position, quote in enumerate(found):
                space, settings = _setting(name, quote.about)
                for step in (0, 1) if name == "ablation_trusted_size" else (0,):
                    score = quote.mean / 100 + shift - 0.01 * step
                    maker.add(
                        f"{base}-{position}-{step}", job_type="tune", method="sap", seed=seed, baseline_id=base, space=space,
                        position=2 * position + step, settings={**settings, "alpha": settings["alpha"] / (1 + step)},
                        job_id=f"{base}-sap-{space}", val_noisy_acc=score - 0.1, val_clean_acc=score, test_acc=score, **where,
                        **{**INFORMATION["sap"], "num_trusted": settings["num_trusted"]},
                    )  # fmt: skip
    return maker


def _setting(name, about):
    if name == "ablation_alpha":
        return "alpha_curve", {"alpha": about["alpha"], "num_trusted": 1000}
    if name == "ablation_trusted_size":
        return "alpha16_size5", {"alpha": 30000.0, "num_trusted": int(about["num_trusted"])}
    return f"{about['strategy']}_fixed", {"alpha": 30000.0, "num_trusted": 1000}


@pytest.fixture
def papers() -> SimpleNamespace:
    """Functions that fill a store maker with the cells of one experiment."""
    return SimpleNamespace(add_cell=add_cell, table1=table1, table2=table2, table3=table3, ablation=ablation, seeds=SEEDS)


_MADE = {}


@pytest.fixture
def made(maker, tmp_path_factory):
    """Returns the folder of a store by name, created once and read-only: table1, table2, table3, partial or an ablation."""

    def make(name):
        if name not in _MADE:
            fresh = type(maker)(tmp_path_factory.mktemp("papers") / name)
            if name.startswith("ablation"):
                ablation(fresh, name)
            elif name == "partial":
                table1(fresh, datasets=("cifar10",), without=[("cifar10", "resnet18", "hierarchical", 0.25)])
                lost = ("cifar10_symmetric-0.1_vgg11_bn_sgd-12484-scrub-1", "cifar10_symmetric-0.25_vgg11_bn_sgd-12484")
                fresh.rows = [row for row in fresh.rows if row.run_id not in lost]
            else:
                {"table1": table1, "table2": table2, "table3": table3}[name](fresh)
            _MADE[name] = fresh.write()
        return _MADE[name]

    return make
