"""`sap-sweep KEY=VALUE`: exit codes, one-line errors, help and completion."""

from __future__ import annotations

import re

import pytest
import yaml

from sweeper.__main__ import main


@pytest.fixture
def places(tmp_path):
    """The paths of this test's results."""
    return [f"paths.results={tmp_path}/demo", f"paths.artifacts={tmp_path}/artifacts", f"paths.data={tmp_path}/data", "backend=local"]


def run(capsys, *words):
    code = main(list(words))
    said = capsys.readouterr()
    return code, said.out, said.err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            ["experiment=demo", "trainer.epoch=3"],
            "unknown key 'epoch' in trainer (did you mean 'epochs'?); allowed: name, _target_, epochs",
        ),
        (["experiment=demo", "trainer.epochs=many"], "trainer.epochs='many' is of the wrong type or value; allowed: a whole number"),
        (["experiment=demo", "seeds=[a]"], "seeds[0]: Value 'a'"),
        (
            ["experiment=dmo"],
            "unknown experiment 'dmo' (did you mean 'demo'?); allowed: ablation_alpha,",
        ),
        (["experiment=demo", "dataset._target_=os.system"], "dataset._target_='os.system' is outside the packages that may be named"),
        (["experiment=demo", "method.sap.corrector._target_=baselines.sap.SAP"], "cannot be imported"),
        (["experiment=demo", "only=method=spa"], "unknown value of only=method 'spa' (did you mean 'sap'?)"),
        (["experiment=demo", "only=metod=sap"], "unknown key 'metod' in only (did you mean 'method'?)"),
        (["seeds=[1]"], "no experiment is chosen; name one, as in sap-sweep experiment=demo (sap-sweep list shows all)"),
        (
            ["experiment=demo", "trainer.epochs=1,2"],
            "to cross them, add --multirun (-m): sap-sweep -m experiment=demo trainer.epochs=1,2",
        ),
        (["-m", "experiment=demo,fashion"], "these experiments would share the store"),
        (["-m", "experiment=demo,fashion", "export=x"], "export=x is one file, and holds one experiment"),
        (["experiment=demo", "cluster=example"], "cluster=NAME is for sap-slurm, and sap-sweep runs jobs on this machine"),
        (["experiment=demo", "cluster=exampel"], "unknown cluster 'exampel' (did you mean 'example'?); allowed: example"),
        (["experiment=demo", "hydra/launcher=joblib"], "'hydra/launcher=joblib' has no effect: Hydra only composes the configuration here"),
        (["experiment=demo", "hydra.run.dir=x"], "'hydra.run.dir=x' has no effect"),
        (
            ["experiment=demo", "--verbose"],
            "unknown option '--verbose' in sap-sweep run; allowed: --config-dir, --multirun, --plugins, --help",
        ),
        (
            ["experiment=demo", "--config-name=x"],
            "Hydra's option --config-name does not apply to sap-sweep: conf/config.yaml is the root of every sweep",
        ),
        (["experiment=demo", "--config-dir", "/none"], "--config-dir /none is not a folder"),
        (["demo"], "unknown command 'demo' in sap-sweep; to run the experiment demo, write sap-sweep experiment=demo"),
        (["experiment=demo", "demo"], "cannot read the argument 'demo'; write key=value"),
        (["experiment=demo", "trainer.epoch=3", "--cfg", "job"], "unknown key 'epoch' in trainer"),
        (["experiment=demo", "trainer.epoch=3", "--help"], "unknown key 'epoch' in trainer"),
    ],
)
def test_mistakes_end_with_code_2_and_one_line_before_anything_starts(capsys, tmp_path, places, words, said):
    code, out, err = run(capsys, *words, *places)
    assert (code, out) == (2, "")
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert said in err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["cells=[{dataset: fashion_mnist, model: lenet5}]"], "data"),
        (["cells=[{dataset: cifar10, model: vgg11_bn}]"], "data"),
    ],
)
def test_a_missing_data_folder_is_reported_before_any_job(capsys, tmp_path, places, arguments, said):
    code, _, err = run(capsys, "experiment=demo", "methods=[sap]", *arguments, *places)
    assert code == 2
    assert err.count("\n") == 1
    assert f"{tmp_path}/{said}" in err
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_data_file_is_reported_before_any_job(capsys, tmp_path, places):
    folder = tmp_path / "data" / "MNIST" / "raw"
    folder.mkdir(parents=True)
    for part in ("train", "t10k"):
        for name in ("images-idx3", "labels-idx1"):
            (folder / f"{part}-{name}-ubyte.gz").write_bytes(b"damaged")
    code, _, err = run(capsys, "experiment=demo", "methods=[sap]", "cells=[{dataset: mnist, model: lenet5}]", *places)
    assert code == 2
    assert err.count("\n") == 1
    assert "-ubyte" in err


def test_an_unwritable_results_folder_is_reported(capsys, tmp_path):
    (tmp_path / "file").touch()
    code, _, err = run(capsys, "experiment=demo", f"paths.results={tmp_path}/file/demo")
    assert code == 2
    assert err == (
        f"error: the results folder {tmp_path}/file/demo cannot be written (Not a directory); "
        f"make it writable, or choose another with paths.results=DIR\n"
    )


def test_an_unreadable_plan_is_written_again(capsys, tmp_path, places):
    """plan.json is a shortcut: its content is checked, and without it the sweep is planned again."""
    (tmp_path / "demo").mkdir()
    for text in ("{", "[]", "{}", '{"key": 3}'):
        (tmp_path / "demo" / "plan.json").write_text(text)
        code, _, err = run(capsys, "experiment=demo", "methods=[sap]", "cells=[{dataset: cifar10, model: vgg11_bn}]", *places)
        assert (code, err.count("\n")) == (2, 1), "it went on to the data, which are missing"


def test_a_dry_run_prints_the_plan_and_writes_nothing(capsys, tmp_path, places):
    code, out, err = run(capsys, "experiment=demo", "dry_run=true", "only=method=sap,scrub seed=12484", *places)
    assert (code, err) == (0, "")
    assert out.startswith("demo: dry run, no job is started\ncell 1: digits (1097 training, 300 validation, 400 test samples), ")
    assert "\n1 cell, 1 seed: 48 jobs, 772 rows\n" in out
    assert "675 (675 distinct)" in out
    assert "finetune" not in out
    assert list(tmp_path.iterdir()) == []


def test_without_arguments_and_for_help_it_prints_the_usage(capsys):
    for words in ([], ["--help"], ["-h"], ["help"]):
        code, out, err = run(capsys, *words)
        assert (code, err) == (0, "")
        assert out.startswith("usage: sap-sweep [run] KEY=VALUE")
        assert "sap-sweep experiment=demo" in out


@pytest.mark.slow
def test_multirun_runs_each_experiment_in_a_store_of_its_own(capsys):
    code, out, err = run(capsys, "-m", "experiment=table2_digits,demo", "methods=[sap]", "seeds=[1]", "noise.rate=0.1,0.2", "dry_run=true")
    assert code == 0
    assert re.findall(r"^(\w+): dry run", out, re.M) == ["table2_digits", "demo"]
    assert re.search(r"^2 cells, 1 seed: 4 jobs", out, re.M)
    assert "experiment 1 of 2: table2_digits, results in results/table2_digits\n" in err
    assert "experiment 2 of 2: demo, results in results/demo\n" in err


def test_the_composed_configuration_is_shown_by_hydra(shell, tmp_path):
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment" / "ours.yaml").write_text("# @package _global_\nname: ours\ncells: [{dataset: digits}]\n")
    done = shell("-m", "sweeper", "--config-dir", str(tmp_path), "experiment=ours", "trainer.epochs=3", "--cfg", "job")
    assert (done.returncode, done.stderr) == (0, "")
    shown = yaml.safe_load(done.stdout)
    assert (shown["name"], shown["trainer"]["epochs"]) == ("ours", 3)
    assert set(shown["method"]) >= {"sap", "scrub"}


@pytest.mark.parametrize(
    ("words", "package", "shown", "said"),
    [
        (["experiment=table1"], "noise", {"name": "symmetric", "rate": 0.1}, "# the first of 16 cells\n"),
        (
            ["-m", "experiment=demo,fashion", "noise.rate=0.3,0.4"],
            "noise",
            {"rate": 0.3},
            "# the first of 2 experiments\n# the first of 2 cells\n",
        ),
        (
            ["experiment=demo", "preset=small"],
            "trainer",
            {"epochs": 40, "learning_rate": 0.02},
            "# preset small leaves dataset as it is, because digits has no images\n",
        ),
        (["experiment=demo", "cluster=example"], "cluster", {"time": "12:00:00", "account": None}, ""),
    ],
)
def test_the_configuration_that_is_shown_is_that_of_the_first_cell(shell, words, package, shown, said):
    done = shell("-m", "sweeper", *words, "--cfg", "job", "--package", package)
    assert (done.returncode, done.stderr) == (0, said)
    assert yaml.safe_load(done.stdout).items() >= shown.items()


def test_help_with_an_experiment_is_hydras(shell):
    done = shell("-m", "sweeper", "experiment=demo", "--help")
    assert (done.returncode, done.stderr) == (0, "")
    assert "experiment: ablation_alpha, ablation_alpha_small," in done.stdout


@pytest.mark.parametrize(
    ("typed", "offered"), [("experiment=d", "experiment=demo"), ("cluster=e", "cluster=example"), ("backend.wor", "backend.workers=")]
)
def test_completion_answers_the_shell(shell, typed, offered):
    line = f"sap-sweep {typed}"
    done = shell("-m", "sweeper", "-sc", "query=bash", COMP_LINE=line, COMP_POINT=str(len(line)))
    assert (done.returncode, done.stderr) == (0, "")
    assert offered in done.stdout.split()


def test_a_mistake_in_a_fresh_process_shows_no_traceback(shell):
    done = shell("-m", "sweeper", "experiment=demo", "modle=vgg11_bn")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: unknown key 'modle' (did you mean 'model'?); allowed: ")
    assert done.stderr.count("\n") == 1
