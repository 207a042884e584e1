"""What the documents say is so: links, files, commands, code and columns."""

import ast
import re
import shlex
import shutil
from dataclasses import fields
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch
import yaml
from PIL import Image
from torchvision.models import resnet18

from analysis.__main__ import main as report
from analysis.__main__ import split as report_words
from analysis.reports.report import write_tables
from analysis.store.load import load
from sap_core.api import Sizes, Trainer
from sap_core.data.prepare import parser as prepare_options
from sap_core.data.source import Classes, Noise
from sap_core.records import Row
from sap_core.run import PlainRun
from sap_core.seeding import stream
from slurm.__main__ import COMMANDS as SLURM_COMMANDS
from slurm.__main__ import main as slurm
from slurm.__main__ import read_cluster
from sweeper.__main__ import main as sap_sweep
from sweeper.commands import parser
from sweeper.execute import parse_options
from sweeper.plan.build import check_command
from trainers.sgd import SGD

ROOT = Path(__file__).parents[1]
PACKAGES = ("sap_core", "trainers", "baselines", "sweeper", "analysis", "slurm")
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
STORE = ("results/", "report/", "JOB", "NAME", "CLASS")  # what a sweep or a reader makes
SHOWN_BY_HYDRA = ("--cfg", "-sc")


def blocks(page, language):
    """(info line, text) of each fenced block in `language`."""
    return [
        (info, text)
        for info, text in re.findall(r"^```(\w[^\n]*)\n(.*?)^```$", page.read_text(), re.M | re.S)
        if info.split()[0] == language
    ]


def commands():
    """Every line of every `sh` block, in words, once; comments are dropped."""
    lines = [line for page in PAGES for _, text in blocks(page, "sh") for line in text.splitlines()]
    return [list(words) for words in dict.fromkeys(tuple(shlex.split(line, comments=True)) for line in lines) if words]


def of(*program):
    """The commands that start with these words; a variable may stand before them."""
    found = []
    for words in commands():
        while "=" in words[0] and words[0].split("=")[0].isupper():
            words = words[1:]
        if tuple(words[: len(program)]) == program:
            found.append(words[len(program) :])
    return found


def named(words):
    return " ".join(words)


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A folder with results/demo: a real store of a short sweep that also runs the example method as a plug-in."""
    folder = tmp_path_factory.mktemp("home")
    done = sap_sweep(
        [
            "experiment=demo", "methods=[sap@alpha16_size5,refit_head]", "plugins=[examples]", "--config-dir", str(ROOT / "examples/conf"),
            "seeds=[1,2]", "trainer.epochs=2", "trainer.learning_rate=0.05", "backend=local", "backend.workers=1",
            f"paths.results={folder}/results/demo", f"paths.artifacts={folder}/results/artifacts",
        ]
    )  # fmt: skip
    assert done == 0
    # One file of `sap-report results/demo all`, which a page checks with `lint`.
    write_tables(load([folder / "results/demo"]), "comparison", folder / "results/demo/report")
    shutil.copytree(ROOT / "examples/demo", folder / "examples/demo", ignore=shutil.ignore_patterns("report"))
    return folder


def page_name(page):
    return str(page.relative_to(ROOT))


@pytest.mark.parametrize("page", PAGES, ids=page_name)
def test_links_and_files_exist(page):
    text = page.read_text()
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", text):
        assert target.startswith("https://") or (page.parent / target).exists(), target
    for name in re.findall(r"`([\w./-]+/[\w.-]+\.(?:py|yaml|md|toml|png))`", text):
        assert any(word in name for word in STORE) or (ROOT / name).exists(), name


def slug(heading):
    """The anchor that GitHub and the site give a heading."""
    return re.sub(r"[^\w -]", "", re.sub(r"\[(.*?)\]\(.*?\)", r"\1", heading).strip().lower()).replace(" ", "-")


@pytest.mark.parametrize("page", PAGES, ids=page_name)
def test_anchors_are_headings(page):
    for target, anchor in re.findall(r"\]\(([^)#:]*\.md|)#([^)]+)\)", page.read_text()):
        other = page.parent / target if target else page
        fenceless = re.sub(r"^```.*?^```$", "", other.read_text(), flags=re.M | re.S)
        assert anchor in map(slug, re.findall(r"^#+ (.*)$", fenceless, re.M)), f"{target}#{anchor}"


def test_every_folder_says_what_belongs_in_it():
    folders = {path.parent for package in PACKAGES for path in (ROOT / package).rglob("*.py")}
    missing = [folder for folder in folders if not ast.get_docstring(ast.parse((folder / "__init__.py").read_text()))]
    assert missing == []


def test_every_command_is_of_a_program_that_is_checked():
    known = {"sap-sweep", "sap-report", "sap-slurm", "make", "git", "cd", "python", "export", "source"}
    assert {words[0] for words in commands() if "=" not in words[0]} <= known
    assert {words[:2][1] for words in of() if words[0] == "make"} <= set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.M))
    assert {named(words[1:3]) for words in of() if words[0] == "python"} == {
        "-m sweeper.execute", "-m examples.correct_resnet18", "-m examples.refresh_demo", "-m sap_core.data.prepare",
        "-m benchmarks.training", "-m pytest",
    }  # fmt: skip


@pytest.mark.parametrize("words", of("python", "-m", "sap_core.data.prepare"), ids=named)
def test_preparations_are_of_sets_that_exist(words):
    prepare_options().parse_args(words)


@pytest.fixture(scope="module")
def own_files(tmp_path_factory):
    """The images and the checkpoint that the pages on a network of one's own name, as overrides in place of theirs."""
    root = tmp_path_factory.mktemp("own")
    for number, place in enumerate(("train/cat", "train/dog", "test/cat", "test/dog")):
        (root / "mine" / place).mkdir(parents=True)
        for each in range(10):
            Image.new("RGB", (32, 32), (20 * each, 50 * number, 0)).save(root / "mine" / place / f"{each}.png")
    torch.save(resnet18(num_classes=2).state_dict(), root / "mine.pt")
    return lambda words: [word.replace("checkpoint=mine.pt", f"checkpoint={root}/mine.pt") for word in words] + [f"paths.data={root}"]


def sweeps():
    """The quick suite composes the demo and the user's own model; each of the others takes one to sixty seconds."""
    quick = {"experiment=demo", "experiment=own"}
    return [pytest.param(words, marks=() if quick & set(words) else pytest.mark.slow) for words in of("sap-sweep")]


@pytest.mark.parametrize("words", sweeps(), ids=named)
def test_sweep_commands_compose(words, own_files, monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    if words[0] == "own":
        assert words[1:] == ["--help"], "the others are the same as those of experiment=own"
        return  # tests/sweeper/commands/test_help.py
    if "experiment=own" in words:
        words = own_files(words)
    # The checkpoint is the reader's.
    monkeypatch.setattr("trainers.pretrained.Pretrained.refuse", lambda *_: None)
    if words[0] in ("replay", "rerun", "compact", "convert", "verify"):
        return  # see below, and tests/sweeper/commands
    if words[0] == "export":
        parser("export").parse_intermixed_args(words[1:])
        words = [word for word in words[1:] if "=" in word]
    if words[0] == "import":
        assert words[1:] == ["back"], "the --store of the line before it"
        return
    if words[0] in ("list", "check", "prepare") or set(words) & set(SHOWN_BY_HYDRA):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("sys.argv", ["sap-sweep"])
            assert sap_sweep(words) == 0
        assert {"list": "  sap  ", "check": "passed  ", "prepare": "things are there"}.get(words[0], "demo") in capsys.readouterr().out
    else:
        quick = [] if any(word.startswith("methods=") for word in words) else ["methods=[sap]"]  # 675 settings in 16 cells take their time
        check_command([*words, *quick])


def test_the_dry_run_says_what_the_pages_say(capsys):
    assert sap_sweep(["experiment=demo", "dry_run=true"]) == 0
    said = capsys.readouterr().out
    assert "675 (675 distinct)" in said
    assert "16 (16 distinct)" in said


def reports():
    """Commands that draw every figure take seconds."""
    slow = {"all", "html"}
    return [pytest.param(words, marks=pytest.mark.slow if slow & set(words) else ()) for words in of("sap-report")]


@pytest.mark.parametrize("words", reports(), ids=named)
def test_report_commands_run(words, home, monkeypatch, capsys):
    monkeypatch.chdir(home)
    if words == ["results/table1"]:
        return  # at the end of the way through a cluster: tests/analysis/tables look at it
    if "claims" in words:  # exit code 1: a claim of the paper fails on its published numbers
        Path("mine.yaml").write_text(re.search(r"```yaml\n(.*?)```", (ROOT / "docs/claims.md").read_text(), re.DOTALL).group(1))
        assert report(words) in (0, 1)
        assert "SAP ahead of" in capsys.readouterr().out
        return
    assert report(words) == 0
    assert words == ["lint", "published"] or report_words(words)[0][0] in (Path("results/demo"), Path("examples/demo"))
    assert capsys.readouterr().out.strip()


@pytest.mark.parametrize("words", of("sap-sweep", "replay"), ids=named)
def test_replay_commands_run(words, home, monkeypatch, capsys):
    monkeypatch.chdir(home)
    assert sap_sweep(["replay", *words]) == 0
    assert "replayed on the complete grid of SAP" in capsys.readouterr().out


@pytest.mark.parametrize("words", of("sap-slurm"), ids=named)
def test_slurm_commands_exist_and_their_scripts_print(words, monkeypatch, tmp_path, capsys):
    """`mine` is the example's cluster; what scripts of a submission look like is tested with them."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    words = [word.replace("cluster=mine", "cluster=example") for word in words]
    assert words[0] in SLURM_COMMANDS
    if words[0] == "submit":
        cluster, rest = read_cluster(words[1:])
        assert cluster.name == "example"
        assert rest[0].startswith(STORE) or (ROOT / f"conf/experiment/{rest[0].removeprefix('experiment=')}.yaml").exists()
    if words[0] == "script":
        assert slurm(words) == 0
        assert capsys.readouterr().out.startswith("#!")


def test_execute_commands_parse():
    for words in of("python", "-m", "sweeper.execute"):
        assert str(parse_options(words).plan) in ("demo.jsonl", "headline.jsonl"), "a bundle that a line before it exports"


@pytest.mark.parametrize("words", of("sap-sweep", "rerun"), ids=named)
def test_rerun_commands_name_a_run_of_the_demo(words):
    planned = pq.read_table(ROOT / "examples/demo/plan.parquet", columns=["run_id"])["run_id"].to_pylist()
    assert words[0] == "results/demo"
    assert words[1] in planned


def test_the_example_method_ran_as_a_plugin(home, capsys):
    report([str(home / "results/demo"), "table", "comparison"])
    assert "refit_head (ridge5)" in capsys.readouterr().out


@pytest.mark.parametrize("page", PAGES, ids=page_name)
def test_code_runs(page, home, monkeypatch):
    monkeypatch.chdir(home)
    for info, text in blocks(page, "python"):
        title = re.search(r'title="(.+)"', info)
        if re.search(r"^(?:import|from) (?:timm|pytorch_lightning|transformers)\b", text, re.M):
            continue  # tests/test_library_page.py runs these
        if title:
            assert text in (ROOT / title.group(1)).read_text()
        else:
            exec(compile(ast.parse(text), str(page), "exec"), {"__name__": page.stem})


def test_the_classes_of_the_extending_page_are_parts(toys):
    space = {}
    for info, text in blocks(ROOT / "docs/adding.md", "python"):
        if "title" not in info:
            exec(text, space)
    noise, labels = space["OffByOne"](rate=0.25), torch.arange(40) % 10
    assert isinstance(noise, Noise)
    given = noise.corrupt(labels, Classes(10), stream(1, "noise"))
    assert int((given != labels).sum()) == 10
    assert set((given - labels).tolist()) <= {0, 1, -1, 9, -9}
    for trainer in (space["Focal"](recipe=SGD(epochs=2)), space["SmallLoss"](recipe=SGD(epochs=2)), space["Twins"](epochs=2)):
        assert isinstance(trainer, Trainer)
        run = PlainRun()
        trainer.fit(toys.make_task(), run)
        forecast = trainer.forecast(Sizes(train=80, val=20))
        assert toys.passes(run) == (forecast.forwards, forecast.backwards)
    assert space["Perceptron"](10, (1, 8, 8))(torch.zeros(2, 1, 8, 8)).shape == (2, 10)


def test_yaml_blocks_compose(tmp_path):
    texts = [text for page in ("adding", "config") for _, text in blocks(ROOT / f"docs/{page}.md", "yaml")]
    assert len(texts) == 3
    (tmp_path / "experiment").mkdir()
    for number, text in enumerate(texts):
        assert not re.search(r"(?<![\d.])\d+e[-+]?\d", text)
        name = yaml.safe_load(text).get("name", f"block{number}")
        whole = text if "@package" in text else f"# @package _global_\nname: {name}\n{text}"
        (tmp_path / "experiment" / f"{name}.yaml").write_text(whole)
        check_command([f"experiment={name}", "--config-dir", str(tmp_path)])


def test_queries_name_columns_that_exist():
    columns = {item.name for item in fields(Row)}
    for text in [text for page in PAGES for _, text in blocks(page, "sql")]:
        words = set(re.findall(r"\b[a-z_]+\b", re.sub(r"'[^']*'|AS \w+", "", text)))
        assert words - {"max", "sum"} <= columns


def test_the_readme_shows_the_demo():
    text = (ROOT / "README.md").read_text()
    assert len(text.encode()) <= 8192, "it is read in three minutes; details belong into docs"
    table = re.search(r"<!-- demo table -->(.*)<!-- end of demo table -->", text, re.S).group(1)
    for method in ("Vanilla", "SCRUB (grid\\_a) | 675", "SAP (alpha16) | 16", "Finetune (grid) | 12"):
        assert f"| {method} |" in table
    assert (ROOT / "docs/tuning_cost.png").read_bytes()[:4] == b"\x89PNG"


def test_licence_and_citation():
    licence = (ROOT / "LICENSE").read_text()
    assert "Apache License\n                           Version 2.0, January 2004" in licence
    assert licence.count("\n") == 202
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["cff-version"] == "1.2.0"
    assert citation["license"] == "Apache-2.0"
    assert [author["family-names"] for author in citation["references"][0]["authors"]] == ["Kodge", "Ravikumar", "Saha", "Roy"]
