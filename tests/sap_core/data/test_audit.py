"""Audit files: verified samples on data whose true labels are unknown."""

import numpy as np
import pytest
import torch
from PIL import Image

from sap_core.api import Need
from sap_core.data.assemble import assemble_task
from sap_core.data.audit import read_audit
from sap_core.data.folder import Folder
from sap_core.data.source import can_verify
from sap_core.errors import UserError

OPTIONS = {"folder": "pets", "num_classes": 2, "num_train": 20, "num_test": 2, "size": 6, "validation": 4, "verified": "audit.csv"}
PATHS, NAMES = [f"train/{name}/{n}.png" for name in ("cat", "dog") for n in range(10)], ["cat", "dog"]


@pytest.fixture
def root(tmp_path):
    for part, each in (("train", 10), ("test", 1)):
        for label, name in enumerate(NAMES):
            folder = tmp_path / "pets" / part / name
            folder.mkdir(parents=True)
            for number in range(each):
                Image.fromarray(np.full((6, 6, 3), 20 * number + label + (2 if part == "test" else 0), np.uint8)).save(
                    folder / f"{number}.png"
                )
    return tmp_path


def spec(**settings):
    return {
        "dataset": {"target": "sap_core.data.folder.Folder", "settings": {**OPTIONS, **settings}},
        "noise": {"target": "sap_core.data.noise.NoNoise", "settings": {}},
        "model": {"target": "sap_core.models.small_cnn.SmallCNN", "settings": {"width": 4}},
        "preprocess": {"normalise": True, "augment": "none", "padding": 4}, "seed": 3, "limit": None,
    }  # fmt: skip


def test_verified_samples_are_those_of_the_file(root):
    audit = {0: 0, 2: 1, 5: 0, 11: 1, 12: 0, 13: 1, 19: 1}
    (root / "audit.csv").write_text("index,true_label\n" + "".join(f"{place},{label}\n" for place, label in audit.items()))
    made = assemble_task(spec(), root, torch.device("cpu"))
    task = made.task.allow(frozenset(Need))
    inside = set(made.train.index.tolist())
    right = {place for place, label in audit.items() if label == (place >= 10)} & inside
    wrong = {place for place, label in audit.items() if label != (place >= 10)} & inside
    assert set(task.verified(Need.RETAIN).index.tolist()) == right
    assert set(task.verified(Need.FORGET).index.tolist()) == wrong
    assert (made.noise_rate_measured, made.transitions, made.truth.known) == (None, None, False), "an audit is no oracle"
    with pytest.raises(UserError, match="has only"):
        task.verified(Need.RETAIN, 15)
    with pytest.raises(UserError, match="unknown"):
        task.verified(Need.TRUE_LABELS)


def test_paths_and_names_say_the_same_as_positions_and_numbers(root):
    (root / "audit.csv").write_text("path,true_label\ntrain/dog/3.png,cat\ntrain/cat/0.png,cat\n")
    by_path, _ = read_audit(root, "audit.csv", PATHS, NAMES)
    for zero in ("0", "0.0", "+0"):
        (root / "audit.csv").write_text(f"index,true_label\n13,{zero}\n0,{zero}\n")
        by_place, _ = read_audit(root, "audit.csv", PATHS, NAMES)
        assert torch.equal(by_path, by_place)
    assert torch.nonzero(by_place >= 0).flatten().tolist() == [0, 13]


def test_lines_that_do_not_fit_are_counted(root):
    (root / "audit.csv").write_text("index,true_label\n0,0\n0,1\n99,0\n3,mouse\n")
    with pytest.raises(
        UserError, match=r"3 of 4 lines .*line 3: a sample of an earlier line; line 4: no such sample; line 5: no such class"
    ):
        Folder(**OPTIONS).load(root)
    for text in ("", "index,label\n1,0\n", "index,true_label\n"):
        (root / "audit.csv").write_text(text)
        with pytest.raises(UserError, match="needs the columns index"):
            Folder(**OPTIONS).inspect(root)
    (root / "audit.csv").unlink()
    with pytest.raises(UserError, match="cannot be read"):
        Folder(**OPTIONS).inspect(root)


def test_another_audit_is_another_data_set(root):
    prints = []
    for label in (0, 1):
        (root / "audit.csv").write_text(f"index,true_label\n4,{label}\n")
        prints.append(Folder(**OPTIONS).inspect(root).digest)
    assert prints[0] != prints[1] != Folder(**{**OPTIONS, "verified": ""}).inspect(root).digest


def test_what_an_audit_can_verify():
    with_audit, without = Folder(**OPTIONS), Folder(**{**OPTIONS, "verified": ""})
    assert [can_verify(with_audit, need) for need in (Need.RETAIN, Need.FORGET, Need.TRUE_LABELS)] == [True, True, False]
    assert not any(can_verify(without, need) for need in Need)
    assert all(can_verify(Folder(**{**OPTIONS, "verified": "", "truth_known": True}), need) for need in Need)
