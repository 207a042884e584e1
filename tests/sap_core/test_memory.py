"""Reading of an image folder that does not fit the memory of its process."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

HOME = Path(__file__).parents[2]
NUM, SIDE = 4_000, 160

PROGRAM = f"""
import re, resource, sys
from pathlib import Path
import torch
from sap_core.data.assemble import assemble_task
from sap_core.seeding import stream
torch.set_num_threads(1)
spec = {{
    "dataset": {{"target": "sap_core.data.folder.Folder", "settings": {{
        "folder": "big", "num_classes": 2, "num_train": {NUM}, "num_test": 2, "size": {SIDE}, "truth_known": True, "check": "size"}}}},
    "noise": {{"target": "sap_core.data.noise.InstanceDependent", "settings": {{"rate": 0.3}}}},
    "model": {{"target": "sap_core.models.small_cnn.SmallCNN", "settings": {{"width": 2}}}},
    "preprocess": {{"normalise": True, "augment": "crop_flip", "padding": 4}}, "seed": 1, "limit": None,
}}
def used():
    return int(re.search(r"VmData:\\s+(\\d+)", Path("/proc/self/status").read_text()).group(1)) * 1024
clean = {{"target": "sap_core.data.noise.NoNoise", "settings": {{}}}}
warm = assemble_task({{**spec, "limit": 64, "noise": clean}}, Path(sys.argv[1]), torch.device("cpu"))
for batch in warm.train.batches(16, stream(1, "train", 1), ("augmented",)):
    pass
cap = used() + {NUM} * {SIDE} ** 2 * 3 * 2 // 3
resource.setrlimit(resource.RLIMIT_DATA, (cap, cap))
made = assemble_task(spec, Path(sys.argv[1]), torch.device("cpu"))
seen = sum(len(batch.labels) for batch in made.train.batches(16, stream(1, "train", 1), ("augmented",)))
print(seen, round(made.noise_rate_measured, 1))
try:
    made.train.pixels.fetch(torch.arange({NUM}))
except (MemoryError, RuntimeError):
    print("too large")
"""


@pytest.mark.slow
def test_a_folder_larger_than_the_memory_cap_is_streamed(tmp_path):
    """The cap leaves room for two thirds of the images: all of them at once fail under it, one epoch and noise on pixels do not."""
    for number in range(NUM + 2):
        folder = tmp_path / "big" / ("train" if number < NUM else "test") / f"class{number % 2}"
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((4, 4, 3), number % 251, np.uint8)).save(folder / f"{number}.png")
    done = subprocess.run([sys.executable, "-c", PROGRAM, str(tmp_path)], cwd=HOME, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["3600 0.3", "too large"]
