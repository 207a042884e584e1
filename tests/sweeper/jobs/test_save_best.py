"""save_corrected=best: the stored network is that of the best row."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pyarrow.parquet as pq
import pytest
import torch

from sap_core.checkpoint import load_state
from sweeper.__main__ import main as sap_sweep
from sweeper.jobs.save_best import best_of


def row(position, score, status="ok", grid_position=None):
    return (f"job{position}", SimpleNamespace(position=position, status=status, val_noisy_acc=score, grid_position=grid_position))


@pytest.mark.parametrize(
    ("rows", "best"),
    [
        ([row(0, 0.7), row(1, 0.8), row(2, 0.75)], 1),
        ([row(2, 0.8), row(0, 0.8), row(1, 0.8)], 0),  # a tie goes to the earlier setting, whatever came first
        ([row(0, 0.8, grid_position=5), row(1, 0.8, grid_position=2)], 1),  # trials come in any order, settings have one
        ([row(0, 0.6), row(1, 0.5)], None),  # as good as the unmodified model is not better
        ([row(0, None, "failed"), row(1, float("nan")), row(2, 0.61)], 2),
        ([row(0, 0.9, "failed")], None),
        ([], None),
    ],
)
def test_the_best_is_strictly_better_and_the_earliest(rows, best):
    found = best_of(rows, "val_noisy_acc", 0.6)
    assert (found and found[1].position) == best


@pytest.fixture(scope="module")
def sweep(tmp_path_factory):
    """sweep(words...): the demo's cell with short training, an alpha that changes nothing, and a search in three families."""
    root = tmp_path_factory.mktemp("corrected")

    def start(*words):
        return sap_sweep(
            [
                "experiment=demo", "methods=[sap,finetune]", "seeds=[1]", "trainer.epochs=3",
                "method.finetune.spaces.grid.epochs.grid=[1,8]",
                "method.sap.spaces.alpha16.alpha.grid=[1.0e12]", "backend=local", "backend.workers=1",
                f"paths.results={root}/demo", f"paths.artifacts={root}/artifacts", *words,
            ]
        )  # fmt: skip

    start.root = root
    assert start() == 0
    return start


def networks(root):
    return {path.parent.name: path for path in (root / "demo" / "corrected").glob("*/*/model.safetensors")}


def test_a_finished_store_gets_its_networks(sweep, capsys):
    root = sweep.root
    assert networks(root) == {}
    rows = [row for path in (root / "demo" / "rows").glob("*.ok.parquet") for row in pq.read_table(path).to_pylist()]
    stamps = {path: path.stat().st_mtime_ns for path in (root / "demo" / "rows").iterdir()}
    capsys.readouterr()
    assert sweep("save_corrected=best") == 0
    said = capsys.readouterr().err
    assert said.count("recomputing the chosen setting for its network") == 1
    assert "sap@alpha16 on" in said
    assert "no setting is better than the unmodified model" in said
    assert stamps == {path: path.stat().st_mtime_ns for path in (root / "demo" / "rows").iterdir()}
    (vanilla,) = [row for row in rows if row["job_type"] == "train"]
    found = networks(root)
    assert set(found) == {"finetune@grid"}
    for name, path in found.items():
        method = name.partition("@")[0]
        best = max((row for row in rows if row["method"] == method), key=lambda row: (row["val_noisy_acc"], -row["position"]))
        meta = json.loads(path.with_name("meta.json").read_text())
        assert meta["run_id"] == best["run_id"]
        assert meta["settings"] == json.loads(best["settings"])
        assert meta["val_noisy_acc"] == best["val_noisy_acc"] > vanilla["val_noisy_acc"] == meta["unmodified_score"]


def test_the_network_is_that_of_the_row(sweep):
    """Evaluated by hand on the validation images it has the row's accuracy."""
    from pathlib import Path

    from sap_core.data.assemble import assemble_task

    path = networks(sweep.root)["finetune@grid"]
    meta = json.loads(path.with_name("meta.json").read_text())
    (line,) = [json.loads(line) for line in (sweep.root / "demo" / "jobs.jsonl").read_text().splitlines() if '"job_type": "train"' in line]
    prepared = assemble_task(line["spec"], Path("data"), torch.device("cpu"))
    model = prepared.task.build(0)
    model.load_state_dict(load_state(path))
    with torch.no_grad():
        right = [(model.eval()(batch.inputs).argmax(1) == batch.labels) for batch in prepared.val.batches(100)]
    assert float(torch.cat(right).double().mean()) == meta["val_noisy_acc"]


def test_another_start_restores_only_what_was_deleted(sweep, capsys):
    path = networks(sweep.root)["finetune@grid"]
    content, stamp = path.read_bytes(), path.stat().st_mtime_ns
    capsys.readouterr()
    assert sweep("save_corrected=best") == 0
    assert "recomputing the chosen setting" not in capsys.readouterr().err
    assert path.stat().st_mtime_ns == stamp
    # A flipped exponent, and a missing file.
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 0x40]))
    assert sweep("save_corrected=best") == 0
    assert "differs from its checksum" in capsys.readouterr().err
    assert path.read_bytes() == content
    path.unlink()
    assert sweep("save_corrected=best") == 0
    assert path.read_bytes() == content


def test_a_missing_baseline_is_recomputed(sweep):
    path = networks(sweep.root)["finetune@grid"]
    before = path.read_bytes()
    path.with_name("meta.json").unlink()
    for meta in (sweep.root / "artifacts").glob("*/meta.json"):
        meta.unlink()
    assert sweep("save_corrected=best") == 0
    assert path.read_bytes() == before


OTHERS = [
    ["searches=[{methods: [finetune], search: tpe, budget: 6}]"],
    ["searches=[{methods: [finetune], search: random, budget: 6}]"],
    ["searches=[{methods: [finetune], search: successive_halving, budget: 6}]", "method.finetune.spaces.grid.epochs.grid=[8,20]"],
]


@pytest.mark.slow
@pytest.mark.parametrize("words", OTHERS, ids=" ".join)
def test_sampled_searches_store_the_network_that_they_chose(sweep, tmp_path, words):
    """On the artifacts of the grid's baseline: the network kept is that of the row with the best score that counts."""
    more = ["methods=[]", *words, "save_corrected=best", f"paths.results={tmp_path}/other"]
    assert sweep(*more) == 0
    rows = [row for path in (tmp_path / "other" / "rows").glob("*.ok.parquet") for row in pq.read_table(path).to_pylist()]
    (vanilla,) = [row for row in rows if row["job_type"] == "train"]
    tried = [row for row in rows if row["method"] == "finetune"]
    scored = [row for row in tried if row["val_noisy_acc"] is not None]
    best = max(scored, key=lambda row: (row["val_noisy_acc"], -(row["position"] if row["grid_position"] is None else row["grid_position"])))
    assert best["val_noisy_acc"] > vanilla["val_noisy_acc"]
    (path,) = (tmp_path / "other" / "corrected").glob("*/*/model.safetensors")
    meta = json.loads(path.with_name("meta.json").read_text())
    assert meta["settings"] == json.loads(best["settings"])
    assert (meta["val_noisy_acc"], meta["unmodified_score"]) == (best["val_noisy_acc"], vanilla["val_noisy_acc"])
    before = path.read_bytes()
    path.unlink()
    assert sweep(*more) == 0
    assert path.read_bytes() == before


def test_the_key_is_no_part_of_ids_and_its_values_are_checked(plan_of, capsys):
    with_it, without = (plan_of("experiment=demo", "methods=[sap]", f"save_corrected={value}") for value in ("best", "none"))
    assert with_it.plan == without.plan
    assert sap_sweep(["experiment=demo", "save_corrected=all", "dry_run=true"]) == 2
    assert "unknown save_corrected 'all'; allowed: none, best" in capsys.readouterr().err
