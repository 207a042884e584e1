"""The instruction sets that rows record, and the bits of `REPRODUCIBLE` under several of them."""

import json
import os
import platform
import subprocess
import sys

import pytest
import torch

from sap_core import instruction_sets
from sap_core.errors import UserError

VARIABLES = ("ATEN_CPU_CAPABILITY", "ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA", "MKL_CBWR", "MKL_ENABLE_INSTRUCTIONS")
has_avx2 = pytest.mark.skipif(torch.backends.cpu.get_cpu_capability() not in ("AVX2", "AVX512"), reason="needs a processor with AVX2")


@pytest.fixture(autouse=True)
def plain(monkeypatch):
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(
    ("variables", "named"),
    [
        ({"ONEDNN_MAX_CPU_ISA": "sse41"}, "oneDNN SSE4.1"),
        ({"DNNL_MAX_CPU_ISA": "AVX2"}, "oneDNN AVX2"),
        ({"ONEDNN_MAX_CPU_ISA": "AVX2_VNNI", "DNNL_MAX_CPU_ISA": "SSE41"}, "oneDNN AVX2"),
        ({"MKL_CBWR": "compatible"}, "MKL COMPATIBLE"),
        ({"MKL_ENABLE_INSTRUCTIONS": "SSE4_2"}, "MKL SSE4_2"),
        ({"MKL_CBWR": "AVX2,STRICT", "MKL_ENABLE_INSTRUCTIONS": "SSE4_2"}, "MKL AVX2,STRICT"),
    ],
)
@pytest.mark.skipif(torch.backends.cpu.get_cpu_capability() != "AVX512", reason="an AVX2 processor has no limit to name at AVX2")
def test_limits_of_each_library_are_named(monkeypatch, variables, named):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert named in instruction_sets.cpu_capability()


def test_other_machines_are_named_and_refused(monkeypatch):
    monkeypatch.setattr(platform, "machine", lambda: "aarch64")
    assert instruction_sets.cpu_capability() == f"aarch64 {torch.backends.cpu.get_cpu_capability()}"
    with pytest.raises(UserError, match=r"needs an x86-64 processor with AVX2, which this one \(aarch64\) is not"):
        instruction_sets.check_processor()


@has_avx2
def test_a_process_without_the_variables_is_refused():
    with pytest.raises(
        UserError, match="start the program with the environment variables ATEN_CPU_CAPABILITY=avx2 ONEDNN_MAX_CPU_ISA=AVX2"
    ):
        instruction_sets.check_reproducible()


PROGRAM = """
import hashlib, json, sys, torch
from sap_core.instruction_sets import cpu_capability, is_reproducible, use_reproducible
from sap_core.models.small_cnn import SmallCNN
if sys.argv[1] == "reproducible":
    use_reproducible()
torch.set_num_threads(1)
torch.manual_seed(0)
network = SmallCNN(10, (1, 8, 8), 8)
optimiser = torch.optim.SGD(network.parameters(), lr=0.02, momentum=0.9)
images, labels = torch.randint(0, 17, (64, 1, 8, 8)) / 16, torch.randint(10, (64,))
for _ in range(10):
    optimiser.zero_grad()
    torch.nn.functional.cross_entropy(network(images), labels).backward()
    optimiser.step()
gram = network.features[0].weight.detach().double().flatten(1)
vectors = torch.linalg.eigh(gram @ gram.T)[1]
weights = torch.cat([one.detach().flatten() for one in network.parameters()])
hashes = [hashlib.sha256(one.numpy().tobytes()).hexdigest() for one in (weights, vectors.contiguous())]
print(json.dumps([hashes, cpu_capability(), is_reproducible()]))
"""


def computed(how, **variables):
    environment = {name: value for name, value in os.environ.items() if name not in VARIABLES} | variables
    done = subprocess.run([sys.executable, "-c", PROGRAM, how], env=environment, capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


@pytest.mark.slow
@has_avx2
def test_reproducible_bits_are_those_of_every_instruction_set():
    """torch's and oneDNN's variables are replaced by those of the setting; MKL's instructions remain those of the other processor."""
    sse4 = {"ATEN_CPU_CAPABILITY": "default", "ONEDNN_MAX_CPU_ISA": "SSE41", "MKL_ENABLE_INSTRUCTIONS": "SSE4_2"}
    bits, capability, reproducible = computed("reproducible", **sse4)
    assert (capability, reproducible) == ("x86_64, torch AVX2, oneDNN AVX2, MKL COMPATIBLE", True)
    assert computed("reproducible") == [bits, capability, True]
    plain, capability, reproducible = computed("plain", **sse4)
    assert (capability, reproducible) == ("x86_64, torch DEFAULT, oneDNN SSE4.1, MKL SSE4_2", False)
    assert plain != bits
