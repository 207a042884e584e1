"""The notebook `examples/tour.ipynb` runs from its first cell to its last, and was stored with the results of such a run."""

from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

TOUR = Path(__file__).parents[1] / "examples/tour.ipynb"


def printed(notebook):
    return "".join(output.get("text", "") for cell in notebook.cells for output in cell.get("outputs", []))


def test_the_notebook_is_stored_with_its_results():
    notebook = nbformat.read(TOUR, 4)
    assert [cell.execution_count for cell in notebook.cells if cell.cell_type == "code"] == list(range(1, 8))
    assert "test accuracy of the corrected network" in printed(notebook)
    assert str(Path.home()) not in TOUR.read_text(encoding="utf-8")


@pytest.mark.slow
def test_the_notebook_runs():
    notebook = nbformat.read(TOUR, 4)
    NotebookClient(notebook, timeout=300, kernel_name="python3", resources={"metadata": {"path": str(TOUR.parent)}}).execute()
    errors = [output for cell in notebook.cells for output in cell.get("outputs", []) if output.get("name") == "stderr"]
    assert errors == []
    assert "test accuracy of the corrected network" in printed(notebook)
