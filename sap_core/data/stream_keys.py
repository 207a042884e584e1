"""Keys of the random streams of splits, label noise and verified samples. Do not change these strings.

The tables are historical: they reproduce the import paths under which the results in this repository were drawn. A changed string gives
other splits and other wrong labels, and so other results. They are not paths that anything is imported from: data sets and noise kinds that
are not listed, and those of plug-ins, are keyed by their declared names, so that a class may move without a change of its random numbers.
"""

from __future__ import annotations

from typing import Literal

from sap_core.components import name_of, package_of

_DATA_SETS = {
    "california_housing": "CaliforniaHousing",
    "cifar10": "CIFAR10",
    "cifar100": "CIFAR100",
    "clothing1m": "Clothing1M",
    "diabetes": "Diabetes",
    "digits": "Digits",
    "fashion_mnist": "FashionMNIST",
    "folder": "Folder",
    "imagenet": "ImageNet",
    "imagenette": "Imagenette",
    "mini_webvision": "MiniWebVision",
    "mnist": "MNIST",
    "spiral": "Spiral",
    "table": "Table",
    "tensors": "Tensors",
    "webvision": "WebVision",
}
_NOISE_KINDS = {
    "asymmetric": "Asymmetric",
    "classifier": "Classifier",
    "hierarchical": "Hierarchical",
    "human": "Human",
    "instance": "InstanceDependent",
    "interclass": "Interclass",
    "linear_targets": "LinearTargets",
    "none": "NoNoise",
    "outliers": "Outliers",
    "pairflip": "PairFlip",
    "patch": "Patch",
    "sign_flip": "SignFlip",
    "symmetric": "Symmetric",
}


def stream_key(kind: Literal["dataset", "noise"], target: str) -> str:
    """Return the key of the data set or noise kind at the dotted path `target`.

    Raises:
        ImportError, AttributeError: the path does not exist.
    """
    # Declared names, not paths, decide: a class may move and keep its numbers.
    name, package = name_of(target), package_of(target)
    # Plug-ins are excluded, so that a foreign class with the name of one of ours gets another stream.
    if package is None and kind == "dataset" and name in _DATA_SETS:
        return ".".join(("sap_core", "data", name, _DATA_SETS[name]))
    if package is None and kind == "noise" and name in _NOISE_KINDS:
        return ".".join(("sap_core", "data", "noise", _NOISE_KINDS[name]))
    return ".".join((package or kind, name))
