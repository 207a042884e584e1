"""Formats names and numbers for tables, plots and messages."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

from sap_core.records import VANILLA

RETRAIN = "retrain"
REFERENCES = frozenset({VANILLA, RETRAIN})
"""Methods that the others are compared with; tables do not rank them."""

DASH = "\u2013"

MINUS = "\u2212"

MISSING = DASH
"""Printed in place of a number that does not exist."""

LABELS: Mapping[str, Mapping[str, str]] = {
    "method": {
        "sap": "SAP", "scrub": "SCRUB", "ssd": "SSD", "finetune": "Finetune", "retrain": "Retrain", "vanilla": "Vanilla", "cf_k": "CF-k",
        "eu_k": "EU-k", "neggrad": "NegGrad+", "salun": "SalUn", "bad_teacher": "Bad Teacher", "amnesiac": "Amnesiac", "fisher": "Fisher",
        "scrub_steps": "SCRUB in steps", "loss_filter": "Loss filter", "relabel": "Relabel", "confident_learning": "Confident learning",
    },
    "dataset": {
        "cifar10": "CIFAR-10", "cifar100": "CIFAR-100", "mnist": "MNIST", "fashion_mnist": "Fashion-MNIST", "digits": "Digits",
        "mini_webvision": "Mini-WebVision", "webvision": "WebVision", "clothing1m": "Clothing1M", "imagenet": "ImageNet",
        "imagenette": "Imagenette", "california_housing": "California housing", "diabetes": "Diabetes", "spiral": "Spiral",
    },
    "network": {
        "resnet18": "ResNet18", "resnet34": "ResNet34", "resnet50": "ResNet50", "resnet101": "ResNet101", "resnet152": "ResNet152",
        "resnet32": "ResNet32", "resnet32_gn": "ResNet32-GN", "resnet18_imagenet": "ResNet18", "resnet34_imagenet": "ResNet34",
        "resnet50_imagenet": "ResNet50", "resnet101_imagenet": "ResNet101", "resnet152_imagenet": "ResNet152",
        "preact_resnet18": "PreAct-ResNet18", "preact_resnet34": "PreAct-ResNet34", "vgg11": "VGG11", "vgg11_bn": "VGG11-BN",
        "vgg13": "VGG13", "vgg13_bn": "VGG13-BN", "vgg16": "VGG16", "vgg16_bn": "VGG16-BN", "vgg19": "VGG19", "vgg19_bn": "VGG19-BN",
        "vit_b_16": "ViT-B/16", "vit_b_32": "ViT-B/32", "vit_l_16": "ViT-L/16", "vit_l_32": "ViT-L/32", "vit_h_14": "ViT-H/14",
        "inception_resnet_v2": "InceptionResNetV2", "lenet5": "LeNet5", "small_cnn": "small CNN", "cnn9": "9-layer CNN",
        "perceptron_bn": "MLP", "linear5": "5-layer linear network",
    },
    "trainer": {
        "sgd": "SGD", "logit_clip": "LogitClip", "mixup": "MixUp", "sam": "SAM", "mentormix": "MentorMix", "mentornet": "MentorNet",
        "gls": "GLS", "label_smoothing": "Label smoothing", "elr": "ELR", "elr_plus": "ELR+", "sce": "SCE", "gce": "GCE", "mae": "MAE",
        "sop": "SOP", "sop_plus": "SOP+", "dividemix": "DivideMix", "coteaching": "Co-teaching", "bootstrapping": "Bootstrapping",
        "self_paced": "Self-paced", "prl_l": "PRL(L)", "prl_g": "PRL(G)", "co_prl_l": "Co-PRL(L)", "co_prl_g": "Co-PRL(G)",
    },
    "noise": {
        "pairflip": "pair-flip", "instance": "instance-dependent", "interclass": "interclass", "classifier": "classifier",
        "human_aggregate": "human (aggregate)", "human_random1": "human (random 1)", "human_random2": "human (random 2)",
        "human_random3": "human (random 3)", "human_worst": "human (worst)", "human_cifar100": "human", "linear_targets": "linear-target",
        "sign_flip": "sign-flip", "outliers": "outlier",
    },
    "pruner": {
        "uniform": "Uniform", "small_loss": "Small loss", "margin": "Margin", "uncertainty": "Uncertainty", "forgetting": "Forgetting",
        "grand": "GraNd", "el2n": "EL2N", "moderate": "Moderate", "ssp": "SSP", "k_center": "k-center", "herding": "Herding",
        "prune4rel": "Prune4ReL",
    },
    "rule": {
        "val_noisy": "validation, given labels", "val_clean_part": "validation, correctly labelled part",
        "test_oracle": "test set (oracle)",
    },
    "space": {},
}  # fmt: skip
"""Field -> name in configurations and rows -> name in print. Names without an entry are printed as configured."""

_own_names: ContextVar[Mapping[str, Mapping[str, str]] | None] = ContextVar("own_names", default=None)


@contextmanager
def display_names(names: Mapping[str, Mapping[str, str]]) -> Iterator[None]:
    """A context in which the user's printed names, by field and name in the rows, take precedence over `LABELS`."""
    # A context rather than an argument: every table, figure and sentence prints names.
    token = _own_names.set(names)
    try:
        yield
    finally:
        _own_names.reset(token)


def label_of(field: str, name: str) -> str:
    """The printed name of a value of one of the fields in `LABELS`: the user's own, the shipped one, or as configured."""
    return (_own_names.get() or {}).get(field, {}).get(name) or LABELS.get(field, {}).get(name, name)


@dataclass(frozen=True)
class Measure:
    """The name, unit and printed precision of a score."""

    name: str
    unit: str
    factor: float  # stored value x factor = printed value
    decimals: int


MEASURES = {"acc": Measure("accuracy", "%", 100, 2), "r2": Measure("R²", "", 1, 4)}


def method_label(method: str, space: str | None = None) -> str:
    """A method's printed name, with its search space if it can have several: "SAP (alpha16)"."""
    name = label_of("method", method)
    return name if space in (None, "default") or method in REFERENCES else f"{name} ({label_of('space', str(space))})"


def dataset_label(name: str) -> str:
    """A data set's name as papers write it; unchanged if unknown."""
    return label_of("dataset", name)


def network_label(name: str) -> str:
    """A network's name as papers write it; unchanged if unknown."""
    return label_of("network", name)


def trainer_label(name: str) -> str:
    """A trainer's name as papers write it; unchanged if unknown."""
    return label_of("trainer", name)


def rule_label(name: str) -> str:
    """A selection rule in words: `validation, given labels`."""
    return label_of("rule", name)


def p_value(p: float | None) -> str:
    """Formats a p-value: `.135`, `.0004`, `< .0001`; a dash without one."""
    if p is None or math.isnan(p):
        return MISSING
    if p < 1e-4:
        return "< .0001"
    # A p-value below .001 would round to .000 or .001 with three decimals.
    return f"{p:.{4 if p < 1e-3 else 3}f}".removeprefix("0")


def number(value: float | None, decimals: int, sign: bool = False) -> str:
    """Formats a number with fixed decimals; None and NaN become a dash."""
    if value is None or math.isnan(value):
        return MISSING
    # `or 0.0` turns -0.0 into 0.0. Nothing that prints as zero has a sign, which would claim a direction.
    rounded = round(value, decimals) or 0.0
    text = f"{rounded:{'+' if sign and rounded else ''}.{decimals}f}"
    # The typographic minus has the width of a plus, so columns of signed numbers align.
    return text.replace("-", MINUS)


def mean_std(mean: float | None, std: float | None, decimals: int, sign: bool = False) -> str:
    """Formats `84.08 ± 0.52`; without a standard deviation the mean only, without a mean a dash."""
    spread = "" if std is None or mean is None else f" ± {std:.{decimals}f}"
    return number(mean, decimals, sign) + spread


def seconds(value: float | None) -> str:
    """Formats seconds with about three significant digits."""
    if value is None or math.isnan(value):
        return MISSING
    decimals = 2 if value < 10 else 1 if value < 100 else 0
    return f"{value:,.{decimals}f}"


def span(values: Iterable[float], decimals: int = 0) -> str:
    """Formats the range of some values: `200`, or `20–500` if they differ; a dash if there are none. NaN is ignored."""
    numbers = sorted(value for value in values if not math.isnan(value))
    if not numbers:
        return MISSING
    low, high = f"{numbers[0]:.{decimals}f}", f"{numbers[-1]:.{decimals}f}"
    return low if low == high else f"{low}{DASH}{high}"


def counted(count: int, word: str, several: str | None = None) -> str:
    """Formats a count with its noun: `1 seed`, `3 seeds`, `2 searches`."""
    return f"{count} {word if count == 1 else several or word + 's'}"


def spread_over(seeds: int) -> str:
    """Explains a number and its ± in a caption; a single seed has no standard deviation."""
    return f"mean ± sample standard deviation over {counted(seeds, 'seed')}" if seeds != 1 else "1 seed, so without a standard deviation"


def plain(value: float) -> str:
    """Formats a hyperparameter's value without trailing zeros: 2000, 0.0005, 1e-05."""
    # Ten significant digits hide binary rounding, as of 0.1 + 0.2, and keep what configurations usually write.
    return f"{value:.10g}"
