"""Real copies of the published data sets, below the folder in the environment variable SAP_SWEEP_DATA."""

import os
from pathlib import Path

import pytest
import torch

from sap_core.data.cifar10 import CIFAR10
from sap_core.data.cifar100 import CIFAR100
from sap_core.data.fashion_mnist import FashionMNIST
from sap_core.data.mnist import MNIST

FOLDERS = {MNIST: "MNIST/raw", FashionMNIST: "FashionMNIST/raw", CIFAR10: "cifar-10-batches-py", CIFAR100: "cifar-100-python"}


@pytest.mark.slow
@pytest.mark.parametrize("kind", FOLDERS)
def test_a_real_copy_loads_and_has_the_published_statistics(kind):
    root = os.environ.get("SAP_SWEEP_DATA")
    if root is None or not (Path(root) / FOLDERS[kind]).is_dir():
        pytest.skip(f"set SAP_SWEEP_DATA to a folder that holds {FOLDERS[kind]} to test on the real set")
    data = kind(verify=False)
    if data.inspect(Path(root)).verified:
        assert kind().inspect(Path(root)).verified
    source = data.load(Path(root))
    images = source.train.fetch(torch.arange(len(source.train))).float() / 255
    assert (len(source.train), len(source.test)) == (kind.num_train, kind.num_test)
    assert tuple(images.shape[1:]) == kind.shape
    assert images.mean((0, 2, 3)).tolist() == pytest.approx(kind.mean, abs=0.001 if len(kind.mean) == 1 else 0.02)
    assert images.std((0, 2, 3)).tolist() == pytest.approx(kind.std, abs=0.001 if len(kind.std) == 1 else 0.02)
    assert set(source.train_labels.tolist()) == set(range(kind.classes.num))
    if kind is not MNIST:
        assert len(set(source.train_labels.bincount().tolist())) == 1
