"""Progress bars appear where they can be shown, and nothing else does."""

import sys
from types import ModuleType

import pytest
from rich import console

from sap_core.sap.progress import NoProgress, progress_bar


@pytest.mark.parametrize(("widgets", "shown"), [(True, True), (False, False)])
def test_a_notebook_shows_bars_if_it_has_widgets(monkeypatch, widgets, shown):
    monkeypatch.setattr(console, "_is_jupyter", lambda: True)
    monkeypatch.setattr("sap_core.sap.progress.find_spec", lambda name: ModuleType(name) if widgets else None)
    monkeypatch.setitem(sys.modules, "ipywidgets", None)
    context = progress_bar(True)
    if shown:  # rich finds no widgets after all, and warns
        with pytest.warns(UserWarning, match="ipywidgets"), context as bars:
            assert not isinstance(bars, NoProgress)
    else:
        with context as bars:
            assert isinstance(bars, NoProgress)


@pytest.mark.parametrize("wanted", [True, False])
def test_a_file_gets_no_bars(wanted, capsys):
    with progress_bar(wanted) as bars:
        bars.stage("inputs", 3)(1)
    assert capsys.readouterr() == ("", "")
