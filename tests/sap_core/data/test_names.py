"""Hidden names, and names that are printed."""

from pathlib import Path

import pytest

from sap_core.data.names import first_names, is_hidden, located, printable, relative


@pytest.mark.parametrize(
    "name", [".ipynb_checkpoints", "._x.png", ".DS_Store", "@eaDir", "__MACOSX", "Thumbs.db", "THUMBS.DB", "desktop.ini", "lost+found"]
)
def test_names_of_systems_are_hidden(name):
    assert is_hidden(name)


@pytest.mark.parametrize("name", ["cat", "a.b.png", "_x.png", "#1.png", "x@2.png"])
def test_other_names_are_not(name):
    assert not is_hidden(name)


def test_any_name_prints_on_one_line():
    assert printable("caf\udce9\n\té") == r"caf\xe9\n\té"
    assert first_names([str(number) for number in range(12)]) == "0, 1, 2, 3, 4, 5, 6, 7, 8, 9, ... and 2 more"


def test_paths_are_located_and_shortened(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert located(Path("/data"), "~/mine") == tmp_path / "mine"
    assert located(Path("/data"), "mine") == Path("/data/mine")
    assert [relative(Path("/base") / path, Path("/base")) for path in ("./a.png", "x/../a.png", "../a.png")] == [
        "a.png",
        "a.png",
        "../a.png",
    ]
    assert relative(Path("/other/a.png"), Path("/base")) == "/other/a.png"
