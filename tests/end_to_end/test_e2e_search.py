"""Searches under both backends: Ray Tune's OptunaSearch and an Optuna study give one sequence of settings and the same rows."""

import json

import pytest

pytestmark = pytest.mark.slow

WORDS = (
    "experiment=demo", "methods=[sap]", "seeds=[1]", "trainer.epochs=2", "method.finetune.corrector.num_retain=40",
    "searches=[{methods: [finetune], search: [random, tpe, successive_halving], budget: 6, seeds: [0]}, "
    "{methods: [sap], search: tpe, budget: 16}]",
    "backend.workers=1",
)  # fmt: skip


@pytest.fixture(scope="module")
def ended(bench):
    return {
        name: bench.run(name, *WORDS, f"backend={name}", f"paths.artifacts={bench.root}/{name}-artifacts", timeout=540)
        for name in ("local", "ray")
    }


def test_both_backends_write_the_same_rows(ended, bench, e2e):
    assert [end.code for end in ended.values()] == [0, 0], [end.err for end in ended.values()]
    local, ray = (bench.store(name) for name in ("local", "ray"))
    local.assert_whole()
    ray.assert_whole()
    assert e2e.comparable(local.rows()) == e2e.comparable(ray.rows())
    tried = [row for row in local.rows() if row["job_type"] == "search"]
    assert len(tried) == 6 + 6 + 6 + 16
    assert len({row["settings"] for row in tried if row["method"] == "sap"}) == 16
    assert all(set(json.loads(row["settings"])) > {"epochs", "learning_rate"} for row in tried if row["method"] == "finetune")


def test_the_command_ends_with_the_table_of_searches(ended):
    for end in ended.values():
        assert "Finetune (grid), successive_halving 6" in end.out
        assert "test score of the grid's selected setting" in " ".join(end.out.split())


def test_a_second_start_runs_nothing_and_prints_the_table(ended, bench):
    before = bench.store("local").everything()
    again = bench.run("local", *WORDS, f"paths.artifacts={bench.root}/local-artifacts")
    assert again.code == 0
    assert "nothing to do" in again.out
    assert "Finetune (grid), successive_halving 6" in again.out
    assert bench.store("local").everything() == before
