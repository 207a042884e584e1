"""The examples of docs/library.md with other packages run, and correct what they are given."""

import ast
import re
import warnings
from pathlib import Path

import pytest
import torch

from sap_core.sap.correction import Correction

PAGE = Path(__file__).parents[1] / "docs/library.md"
BLOCKS = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(), re.M | re.S)


@pytest.mark.slow
@pytest.mark.parametrize("package", ["timm", "pytorch_lightning", "transformers"])
def test_the_example_runs(package, tmp_path, monkeypatch):
    pytest.importorskip(package)
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    (text,) = [block for block in BLOCKS if re.search(rf"^(?:import|from) {package}\b", block, re.M)]
    space = {"__name__": "library"}
    with warnings.catch_warnings():
        # Lightning advises on the number of workers and the like.
        warnings.simplefilter("ignore")
        exec(compile(ast.parse(text), str(PAGE), "exec"), space)
    found = space["result"]
    assert isinstance(found, Correction)
    assert (found.num_settings, found.num_train, found.num_val, len(found.trusted_indices)) == (16, 64, 32, 16)
    network = space.get("module", space.get("model"))
    assert type(found.model) is type(network)
    assert found.model.state_dict().keys() == network.state_dict().keys()


def test_every_example_is_run():
    others = [block for block in BLOCKS if not re.search(r"^(?:import|from) (?:timm|pytorch_lightning|transformers)\b", block, re.M)]
    assert (len(BLOCKS), len(others)) == (4, 1)
