"""The walk of docs/own_model.md: torchvision's ResNet18 with given weights and a small folder of images, with and without val/."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from torch import nn

from analysis.__main__ import main as report
from sweeper.__main__ import main as sap_sweep

pytestmark = pytest.mark.slow

HOME = Path(__file__).resolve().parents[1]
CLASSES, SIDE, TRAIN, VAL, TEST = 4, 32, 160, 32, 40
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def pictures(count, seed):
    """(N, 3, 32, 32) uint8 images, one pattern per class, and given labels of which a fifth are wrong."""
    patterns = torch.randint(0, 200, (CLASSES, 3, SIDE, SIDE), generator=torch.Generator().manual_seed(9))
    generator = torch.Generator().manual_seed(seed)
    truth = torch.arange(count) % CLASSES
    images = patterns[truth] + torch.randint(0, 56, (count, 3, SIDE, SIDE), generator=generator)
    wrong = torch.rand(count, generator=generator) < 0.2
    return images.to(torch.uint8), torch.where(wrong, (truth + 1) % CLASSES, truth)


def write_folder(root, **parts):
    """`parts`: name -> (number of images, seed)."""
    for part, (count, seed) in parts.items():
        for number, (image, label) in enumerate(zip(*pictures(count, seed), strict=True)):
            path = root / part / f"class{int(label)}" / f"{number:04}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image.permute(1, 2, 0).numpy()).save(path)


@torch.no_grad()
def noisy_network(seed=5):
    """A ResNet18 that has memorised wrong labels: random but for its head, which fits 160 images' given labels exactly (least squares)."""
    from torchvision.models import resnet18

    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = resnet18(num_classes=CLASSES)
    images, given = pictures(TRAIN, seed=seed)
    inputs = (images / 255 - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(STD).view(3, 1, 1)
    for layer in model.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.momentum = None
    model.train()(inputs)  # statistics of these images
    head, model.fc = model.fc, nn.Identity()
    features = model.eval()(inputs)
    model.fc = head
    solution = torch.linalg.lstsq(features.double(), nn.functional.one_hot(given, CLASSES).double(), driver="gelsd").solution
    head.weight.copy_(solution.mT)
    head.bias.zero_()
    return model


def places(root, name):
    return [
        f"paths.results={root / name}", f"paths.artifacts={root / 'artifacts'}", f"paths.data={root / 'data'}", "backend=local",
        "backend.workers=1",
    ]  # fmt: skip


def rows_of(store):
    rows = [row for path in sorted((store / "rows").glob("*.ok.parquet")) for row in pq.read_table(path).to_pylist()]
    (baseline,) = [row for row in rows if row["job_type"] == "train"]
    return baseline, sorted((row for row in rows if row["job_type"] == "tune"), key=lambda row: row["position"])


def words_of_the_page(root):
    """The page's command without its dry run, for two settings, with places below `root`."""
    page = (HOME / "docs/own_model.md").read_text().splitlines()
    line = next(line for line in page if line.startswith("sap-sweep experiment=own") and "dry_run" not in line)
    words = [word for word in shlex.split(line)[1:] if not word.startswith("trainer.checkpoint=")]
    constants = [f"trainer.preprocess.{key}={list(values)}".replace(" ", "") for key, values in (("mean", MEAN), ("std", STD))]
    own = [f"trainer.checkpoint={root / 'mine.pt'}", "method.sap.spaces.alpha16.alpha.grid=[300000.0,3000.0]"]
    return [*words, *constants, *own, *places(root, "own")]


@pytest.fixture(scope="module")
def walk(tmp_path_factory):
    """(folder, model): the page's command on made images and a ResNet18 that has seen none of them."""
    root = tmp_path_factory.mktemp("walk")
    write_folder(root / "data" / "mine", train=(TRAIN, 0), val=(VAL, 2), test=(TEST, 1))
    model = noisy_network()
    torch.save(model.state_dict(), root / "mine.pt")
    assert sap_sweep(words_of_the_page(root)) == 0
    return root, model


def test_the_given_weights_are_the_baseline(walk):
    root, model = walk
    baseline, tuned = rows_of(root / "own")
    assert len(tuned) == 2
    kept = load_file(root / "artifacts" / baseline["job_id"] / "model.safetensors")
    for name, value in model.state_dict().items():
        assert torch.equal(kept[f"model\x1f{name}"], value)
    assert (baseline["num_train"], baseline["num_val"], baseline["num_test"]) == (TRAIN, VAL, TEST)
    assert baseline["train_seconds"] is None
    assert baseline["mislabelled_given_acc"] is None, "nobody knows which labels are wrong"


def test_won_and_lost_make_up_the_difference_of_the_accuracies(walk):
    baseline, tuned = rows_of(walk[0] / "own")
    assert baseline["val_newly_right"] is baseline["val_newly_wrong"] is None
    assert any(row["val_newly_right"] + row["val_newly_wrong"] for row in tuned)
    for row in tuned:
        assert row["val_newly_right"] - row["val_newly_wrong"] == round((row["val_noisy_acc"] - baseline["val_noisy_acc"]) * row["num_val"])


def test_the_report_says_whether_to_use_it(walk, capsys):
    assert report([str(walk[0] / "own")]) == 0
    summary = capsys.readouterr().out
    assert "keep the unmodified model" in summary or "use the corrected model" in summary
    assert f"{walk[0]}/own table recommendation" in summary
    assert report([str(walk[0] / "own"), "table", "recommendation"]) == 0
    said = " ".join(capsys.readouterr().out.split())  # lines are broken at the width of the terminal
    assert "Corrected or unmodified model on folder, no added noise, torchvision from a checkpoint" in said
    assert "keep the unmodified model" in said or "use the corrected model" in said


def test_a_corrected_network_goes_back_into_the_users_own_class(walk):
    root, model = walk
    baseline, tuned = rows_of(root / "own")
    best = max(tuned, key=lambda row: (row["val_noisy_acc"], -row["position"]))
    folder = root / "own" / "corrected" / baseline["job_id"] / "sap@alpha16"
    print(baseline["val_noisy_acc"], [row["val_noisy_acc"] for row in tuned])
    assert best["val_noisy_acc"] > baseline["val_noisy_acc"], "choose images on which a setting is better: else this shows nothing"
    meta = json.loads((folder / "meta.json").read_text())
    assert (meta["run_id"], meta["val_noisy_acc"], meta["settings"]["alpha"]) == (
        best["run_id"],
        best["val_noisy_acc"],
        json.loads(best["settings"])["alpha"],
    )
    assert meta["classes"] == [f"class{number}" for number in range(CLASSES)]
    other = type(model)(*[type(model.layer1[0]), [2, 2, 2, 2], CLASSES])
    other.load_state_dict(load_file(folder / "model.safetensors"))
    assert not torch.equal(other.fc.weight, model.fc.weight)


@pytest.mark.slow
def test_validation_images_that_were_memorised_recommend_nothing(tmp_path, capsys):
    write_folder(tmp_path / "data" / "mine", train=(TRAIN, 0), test=(TEST, 1))
    torch.save(noisy_network(seed=0).state_dict(), tmp_path / "mine.pt")
    assert sap_sweep(words_of_the_page(tmp_path)) == 0
    baseline, _ = rows_of(tmp_path / "own")
    assert baseline["val_source"] == "drawn"
    assert baseline["val_noisy_acc"] == baseline["train_acc"] == 1.0 > baseline["test_acc"]
    said = " ".join(capsys.readouterr().out.split())
    assert "no recommendation: the validation images look memorised" in said
    assert "val/CLASS/ in a folder" in said
