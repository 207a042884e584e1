"""The files of configuration folders: which are choices, and what is said about those that Hydra would misread."""

from __future__ import annotations

import pytest
from omegaconf import OmegaConf

from sap_core.errors import UserError
from sap_core.yaml_files import read_yaml
from sweeper.config.choices import described_choices as listed
from sweeper.config.choices import shipped_folder
from sweeper.config.compose import compose_all


def test_shipped_files_are_read_as_omegaconf_reads_them():
    for path in sorted(shipped_folder().rglob("*.yaml")):
        assert read_yaml(path).data == OmegaConf.to_container(OmegaConf.load(path)), path


EXPERIMENT = "# @package _global_\nname: mine\ncells: [{dataset: digits, model: thin}]\n"
MODEL = "name: thin\n_target_: sap_core.models.small_cnn.SmallCNN\nwidth: 2\n"


@pytest.fixture
def folder(tmp_path):
    place = tmp_path / "my cönf [1], it's"
    for group, text in (("experiment", EXPERIMENT), ("model", MODEL)):
        (place / group).mkdir(parents=True)
        (place / group / f"{'mine' if group == 'experiment' else 'thin'}.yaml").write_text(text)
    return place


@pytest.mark.parametrize("written", ["absolute", "relative", "home"])
def test_folders_of_any_name(folder, written, monkeypatch):
    monkeypatch.chdir(folder.parent)
    monkeypatch.setenv("HOME", str(folder.parent))
    word = {"absolute": str(folder), "relative": folder.name, "home": f"~/{folder.name}"}[written]
    assert compose_all(["experiment=mine", f"--config-dir={word}"]).cells[0]["model"]["width"] == 2


def test_hidden_files_and_backups_are_no_choices(folder):
    for name in ("._thin.yaml", "thin.yaml~", ".#thin.yaml", "#thin.yaml#", "wide.yml", ".hidden.yaml"):
        (folder / "model" / name).write_bytes(b"\xff\x00")
    (folder / "model" / "folder.yaml").mkdir()
    assert set(listed([folder])["model"]) - set(listed()["model"]) == {"thin"}
    compose_all(["experiment=mine", "--config-dir", str(folder)])
    with pytest.raises(UserError, match=r"wide\.yml is no choice of model, because its name does not end in \.yaml; rename it: mv "):
        compose_all(["experiment=mine", "model=wide", "--config-dir", str(folder)])


@pytest.mark.parametrize(
    ("group", "text", "said"),
    [
        (
            "experiment",
            EXPERIMENT.partition("\n")[2],
            "line 1: an experiment sets keys of the whole configuration; make '# @package _global_'",
        ),
        ("experiment", f"# my experiment\n{EXPERIMENT}", "line 1: an experiment sets keys of the whole configuration"),
        ("model", f"# @package _global_\n{MODEL}", "line 1: only experiments have a line '# @package _global_'; remove it"),
        ("model", "", "is empty; write its keys"),
        ("model", "- 1\n", "line 1: the file is a list; it must be a mapping, with lines KEY: VALUE"),
        ("model", "\twidth: 2\n", "line 1: the line is indented with a tab"),
    ],
)
def test_mistakes_of_a_file_name_it(folder, group, text, said):
    file = next((folder / group).glob("*.yaml"))
    file.write_text(text)
    with pytest.raises(UserError) as caught:
        compose_all(["experiment=mine", "--config-dir", str(folder)])
    assert str(caught.value).startswith(str(file))
    assert said in str(caught.value)
