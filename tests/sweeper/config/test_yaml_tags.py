"""A tag of YAML that names an object of Python makes none, and is refused in one sentence."""

from __future__ import annotations

import pytest
import yaml

from sap_core.errors import UserError
from sweeper.backends.ray_cluster import backend_settings
from sweeper.config.compose import compose_all
from sweeper.plan.snapshot import load_snapshot

TAG = '!!python/object/apply:os.system ["touch owned"]'


def test_a_tag_makes_no_object(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment" / "evil.yaml").write_text(f"# @package _global_\nname: {TAG}\n")
    (tmp_path / "config.yaml").write_text(f"name: {TAG}\n")
    (tmp_path / "jobs.jsonl").write_text("")
    for read in (
        lambda: compose_all(["experiment=evil", f"--config-dir={tmp_path}"]),
        lambda: load_snapshot(tmp_path, [], None, []),
        lambda: backend_settings(tmp_path),
    ):
        with pytest.raises(UserError, match="could not determine a constructor for the tag"):
            read()
    assert not (tmp_path / "owned").exists()


@pytest.mark.parametrize("name", ["x\n#SBATCH --uid=0", "$(id)", "../x", ""])
def test_the_name_of_a_stored_sweep_reaches_no_batch_script_unchecked(tmp_path, name):
    (tmp_path / "config.yaml").write_text(yaml.safe_dump({"name": name}))
    (tmp_path / "jobs.jsonl").write_text("")
    with pytest.raises(UserError, match="has a form that sap-sweep does not write"):
        load_snapshot(tmp_path, [], None, [])
