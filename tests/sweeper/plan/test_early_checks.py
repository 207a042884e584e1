"""Mistakes that are reported before torch is loaded, and the words of a dry run."""

import subprocess
import sys
from dataclasses import replace

import pytest

from sweeper.plan.cell_descriptions import describe_cells


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["experiment=demo", "methods=[sap@alpha61]"], "unknown space 'alpha61' in methods (sap) (did you mean 'alpha16'?)"),
        (["experiment=own", "trainer.checkpoint=none.pt", "dataset.folder=none"], "there is no readable folder"),
        (["experiment=own", "trainer.checkpoint=none.pt", "dataset.folder=/"], "trainer.checkpoint=none.pt is not a file"),
    ],
)
def test_a_typing_error_is_reported_without_torch(arguments, message, tmp_path):
    program = (
        f"import sys; from sweeper.__main__ import main; code = main({[*arguments, f'paths.data={tmp_path}']!r}); "
        "assert 'torch' not in sys.modules; sys.exit(code)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr.startswith(f"error: {message}")
    assert done.stderr.count("\n") == 1


def test_a_dry_run_names_data_noise_network_trainer_and_methods(plan_of):
    demo = plan_of("experiment=demo")
    assert describe_cells(demo.cells, demo.plan.jobs) == [
        "cell 1: digits (1097 training, 300 validation, 400 test samples), noise symmetric (rate=0.25), network perceptron_bn, "
        "trainer sgd (epochs=50, batch_size=64, learning_rate=0.02)",
        "  methods: retrain@only (1 setting), finetune@grid (12 settings), ssd@grid (50 settings), scrub@grid_a (675 settings), "
        "sap@alpha16 (16 settings), sap@alpha16_size5 (80 settings)",
    ]
    jobs = [replace(job, cells=(0, 1)) for job in demo.plan.jobs]
    assert describe_cells([*demo.cells, *demo.cells], jobs)[3] == "  methods as above"
    sap = [job for job in demo.plan.jobs if job.labels["space"] == "alpha16"]
    assert describe_cells(demo.cells, sap)[1] == "  methods: sap@alpha16 (16 settings)"
