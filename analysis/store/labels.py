"""Formats names and numbers for tables, plots and messages."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from sap_core.records import VANILLA

RETRAIN = "retrain"
REFERENCES = frozenset({VANILLA, RETRAIN})
"""Methods that the others are compared with; tables do not rank them."""

DASH = "\u2013"

MINUS = "\u2212"

MISSING = DASH
"""Printed in place of a number that does not exist."""

_NAMES = {
    "sap": "SAP", "scrub": "SCRUB", "ssd": "SSD", "finetune": "Finetune", "retrain": "Retrain", "vanilla": "Vanilla", "cf_k": "CF-k",
    "eu_k": "EU-k", "neggrad": "NegGrad+", "salun": "SalUn", "bad_teacher": "Bad Teacher",
    "amnesiac": "Amnesiac", "fisher": "Fisher", "scrub_steps": "SCRUB in steps", "loss_filter": "Loss filter", "relabel": "Relabel",
    "confident_learning": "Confident learning",
}  # fmt: skip

_DATASETS = {
    "cifar10": "CIFAR-10", "cifar100": "CIFAR-100", "mnist": "MNIST", "fashion_mnist": "Fashion-MNIST", "mini_webvision": "Mini-WebVision",
    "webvision": "WebVision", "clothing1m": "Clothing1M", "imagenet": "ImageNet", "imagenette": "Imagenette",
}  # fmt: skip

_NETWORKS = {
    "resnet18": "ResNet18", "resnet34": "ResNet34", "resnet50": "ResNet50", "resnet18_imagenet": "ResNet18",
    "resnet34_imagenet": "ResNet34",
    "resnet50_imagenet": "ResNet50", "resnet101_imagenet": "ResNet101", "vgg11_bn": "VGG11-BN", "vgg16_bn": "VGG16-BN",
    "vit_b_16": "ViT-B/16", "inception_resnet_v2": "InceptionResNetV2", "lenet5": "LeNet5",
}  # fmt: skip

_TRAINERS = {
    "sgd": "SGD", "logit_clip": "LogitClip", "mixup": "MixUp", "sam": "SAM", "mentormix": "MentorMix", "mentornet": "MentorNet",
    "gls": "GLS", "label_smoothing": "Label smoothing", "elr": "ELR", "elr_plus": "ELR+", "sce": "SCE", "gce": "GCE", "mae": "MAE",
    "sop": "SOP", "sop_plus": "SOP+", "dividemix": "DivideMix", "coteaching": "Co-teaching",
}  # fmt: skip


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
    # Unknown names (plug-ins) are printed as configured.
    name = _NAMES.get(method, method)
    return name if space in (None, "default") or method in REFERENCES else f"{name} ({space})"


def dataset_label(name: str) -> str:
    """A data set's name as papers write it; unchanged if unknown."""
    return _DATASETS.get(name, name)


def network_label(name: str) -> str:
    """A network's name as papers write it; unchanged if unknown."""
    return _NETWORKS.get(name, name)


def trainer_label(name: str) -> str:
    """A trainer's name as papers write it; unchanged if unknown."""
    return _TRAINERS.get(name, name)


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
