"""Wrong values in files and on the command line: one sentence with the file, its line and the key."""

from __future__ import annotations

import pytest

from sap_core.errors import UserError
from sweeper.config.compose import compose_all


@pytest.mark.parametrize(
    ("lines", "number", "said"),
    [
        ("paths:\n  artifacts: ~", 3, "paths.artifacts: null is not allowed here; leave it out, or write a value"),
        ("seeds: abc", 2, "seeds: its value is a list; write seeds: [VALUE]"),
        ("seeds: [1, a]", 2, "seeds[1]: Value 'a' must be a whole number, without a point"),
        ("dry_run: maybe", 2, "dry_run: Value 'maybe' must be true or false"),
        ("paths: 3", 2, "paths: the keys of paths are set one by one; write paths: {KEY: VALUE}"),
        ("methods: {sap: 1}", 2, "methods: its value is a list; write methods: [VALUE]"),
        ("name: [a]", 2, "name: a list or mapping is not a text; write one value"),
        ("sedes: [1]", 2, "unknown key 'sedes' (did you mean 'seeds'?); allowed: name, "),
        ("paths:\n  result: x", 3, "unknown key 'result' in paths (did you mean 'results'?); allowed: data, results, artifacts"),
        ("name: !x", 2, "!x is a tag of YAML, which this file may not have; put a text that begins with ! in quotes"),
    ],
)
def test_a_wrong_value_in_an_experiment_is_named_with_file_and_line(tmp_path, lines, number, said):
    file = tmp_path / "experiment" / "mine.yaml"
    file.parent.mkdir()
    file.write_text(f"# @package _global_\n{lines}\n")
    with pytest.raises(UserError) as caught:
        compose_all(["experiment=mine", f"--config-dir={tmp_path}"])
    assert str(caught.value).startswith(f"{file}, line {number}: {said}")


def test_a_key_of_another_groups_file_is_found_in_it(tmp_path):
    file = tmp_path / "backend" / "mine.yaml"
    file.parent.mkdir()
    file.write_text("defaults: [local]\nthreads: 1\nworkers: two\n")
    with pytest.raises(UserError) as caught:
        compose_all(["backend=mine", f"--config-dir={tmp_path}"])
    assert str(caught.value) == f"{file}, line 3: backend.workers: Value 'two' must be a whole number, without a point"


@pytest.mark.parametrize(
    ("argument", "said"),
    [
        ("methods={sap:1}", "methods: its value is a list; write 'methods=[VALUE]'"),
        ("paths=3", "paths: the keys of paths are set one by one; write paths.KEY=VALUE"),
        ("paths.data=null", "paths.data: null is not allowed here; leave it out, or write a value"),
        ("paths.data=${dta}", "paths.data: Interpolation key 'dta' not found; ${KEY} stands for the value of another key"),
    ],
)
def test_on_the_command_line_the_remedy_is_an_argument(argument, said):
    with pytest.raises(UserError) as caught:
        compose_all([argument])
    assert str(caught.value).startswith(said)
