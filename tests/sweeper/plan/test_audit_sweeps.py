"""Methods that need verified samples, on images of which a file verifies some: from the command to the rows."""

from __future__ import annotations

import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from sap_core.data.splits import split
from sap_core.seeding import stream
from sweeper.__main__ import main as sap_sweep

EACH, LOOKED_UP = 30, 24
"""Images of each of three classes, and how many of all are in the audit, every third of them wrong."""


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Grey images in folders, and an audit.csv of the first ones of each class."""
    folder = tmp_path_factory.mktemp("audited")
    generator = torch.Generator().manual_seed(3)
    for part, each in (("train", EACH), ("test", 4)):
        for label in range(3):
            place = folder / "data" / "pets" / part / f"class{label}"
            place.mkdir(parents=True)
            for number in range(each):
                noise = torch.randint(0, 60, (8, 8), generator=generator)
                Image.fromarray((noise + 60 * label).to(torch.uint8).numpy()).save(place / f"{number:02}.png")
    lines = [
        f"train/class{label}/{number:02}.png,class{(label + (number % 3 == 0)) % 3}"
        for label in range(3)
        for number in range(LOOKED_UP // 3)
    ]
    (folder / "data" / "audit.csv").write_text("path,true_label\n" + "\n".join(lines) + "\n")
    return folder


def looked_up():
    """(right, wrong) labels of the training split that the audit tells."""
    train, _ = split(3 * EACH, 18, stream(0, "split", "sap_core.data.folder.Folder"))
    numbers = [place % EACH for place in train.tolist() if place % EACH < LOOKED_UP // 3]
    wrong = sum(number % 3 == 0 for number in numbers)
    return len(numbers) - wrong, wrong


def words(root, *more):
    return [
        "experiment=demo", "name=audited",
        "cells=[{dataset: folder, noise: none, model: small_cnn}]", "methods=[finetune,ssd,scrub]", "seeds=[1]",
        "dataset.folder=pets", "dataset.size=8", "dataset.channels=1", "dataset.num_classes=3", f"dataset.num_train={3 * EACH}",
        "dataset.num_test=12", "dataset.validation=18", "dataset.split_seed=0", "dataset.verified=audit.csv", "trainer.epochs=2",
        "method.finetune.spaces.grid.learning_rate.grid=[0.01]", "method.finetune.spaces.grid.epochs.grid=[1,2]",
        "method.ssd.spaces.grid.selection.grid=[10.0]", "method.ssd.spaces.grid.dampening.grid=[1.0]",
        "method.scrub.spaces.grid_a.learning_rate.grid=[0.001]", "method.scrub.spaces.grid_a.msteps.grid=[1]",
        "method.scrub.spaces.grid_a.epochs.grid=[1,2]", "method.scrub.spaces.grid_a.forget_batch.grid=[4]",
        "method.scrub.spaces.grid_a.retain_batch.grid=[4]", "method.finetune.corrector.num_retain=8", "method.ssd.corrector.num_retain=8",
        "method.ssd.corrector.num_forget=4", "method.scrub.corrector.num_retain=8", "method.scrub.corrector.num_forget=4",
        "backend=local", "backend.workers=1", f"paths.data={root}/data",
        f"paths.results={root}/results", f"paths.artifacts={root}/artifacts",
        *more,
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ("method.scrub.corrector.num_retain=30", "scrub@grid_a asks for num_retain=30 of verified samples (retain), but under seed 1"),
        ("method.ssd.corrector.num_forget=9", "ssd@grid asks for num_forget=9 of verified samples (forget), but under seed 1"),
    ],
)
def test_more_than_the_file_verifies_is_refused_before_anything_runs(root, capsys, more, said):
    assert sap_sweep(words(root, more)) == 2
    error = capsys.readouterr().err
    assert said in error
    right, wrong = looked_up()
    assert f"'audit.csv' verifies {right} right and {wrong} wrong labels in the training split of folder" in error
    assert not (root / "artifacts").exists()


@pytest.mark.slow
def test_the_methods_run_on_what_was_looked_up(root):
    assert sap_sweep(words(root)) == 0
    rows = [row for path in (root / "results" / "rows").glob("*.ok.parquet") for row in pq.read_table(path).to_pylist()]
    told = {row["method"]: (row["information"], row["num_retain"], row["num_forget"]) for row in rows}
    assert told == {
        "vanilla": ("none", None, None), "finetune": ("verified_file", 8, None), "ssd": ("verified_file", 8, 4),
        "scrub": ("verified_file", 8, 4),
    }  # fmt: skip
    assert len(rows) == 1 + 2 + 1 + 2
    assert all(row["val_noisy_acc"] is not None and row["noise_rate_measured"] is None and row["val_clean_acc"] is None for row in rows)


@pytest.mark.slow
def test_a_fraction_of_the_verified_wrong_labels_may_be_requested(root):
    more = ["methods=[ssd]", "name=share", "method.ssd.corrector.num_forget=0.5", "method.ssd.corrector.source=identified"]
    assert sap_sweep(words(root, *more, "method.ssd.corrector.num_retain=60")) == 0
    rows = [row for path in (root / "results" / "rows").glob("*.ok.parquet") for row in pq.read_table(path).to_pylist()]
    (row,) = [row for row in rows if row["experiment"] == "share" and row["method"] == "ssd"]
    assert (row["num_forget"], row["num_retain"], row["num_trusted"], row["information"]) == (
        round(looked_up()[1] / 2),
        None,
        60,
        "verified_file",
    )


@pytest.mark.slow
def test_a_finished_sweep_runs_anew_when_the_audit_was_edited(root, capsys):
    more = ["methods=[]", "name=edited", f"paths.results={root}/edited"]
    assert sap_sweep(words(root, *more)) == 0
    assert sap_sweep(words(root, *more)) == 0
    assert "nothing to do" in capsys.readouterr().out
    audit = root / "data" / "audit.csv"
    kept = audit.read_text()
    audit.write_text(kept.rsplit("train/", 1)[0])  # one line less
    try:
        assert sap_sweep(words(root, *more)) == 0
    finally:
        audit.write_text(kept)
    assert "nothing to do" not in capsys.readouterr().out
    assert len(list((root / "edited" / "rows").glob("*.ok.parquet"))) == 2  # an edited audit is another data set
