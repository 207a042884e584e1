"""Folders of the command line: the home folder in them, and when a check asks for the data."""

from __future__ import annotations

import pytest

from sap_core.errors import UserError
from slurm.arguments import expand_home, needs_data
from slurm.cluster import Cluster
from slurm.probe import check_data


def test_home_in_folders_is_expanded(monkeypatch):
    monkeypatch.setenv("HOME", "/home/me")
    for word, found in (
        ("paths.data=~/x", "paths.data=/home/me/x"),
        ("paths.data=$HOME/x", "paths.data=/home/me/x"),
        ("paths.results=${HOME}", "paths.results=/home/me"),
        ("paths.data=~other/x", "paths.data=~other/x"),
        ("paths.data=/a/~/x", "paths.data=/a/~/x"),
        ("name=~", "name=~"),
    ):
        assert expand_home(word) == found


def test_check_asks_for_data_where_a_folder_is_named(monkeypatch):
    monkeypatch.delenv("SAP_SWEEP_DATA", raising=False)
    assert not needs_data(Cluster(), ["paths.results=/x"])
    assert needs_data(Cluster(), ["paths.data=/x"])
    assert needs_data(Cluster(overrides=("paths.data=/x",)), [])
    with pytest.raises(UserError, match="unexpected argument 'seeds=1'"):
        needs_data(Cluster(), ["seeds=1"])
    monkeypatch.setenv("SAP_SWEEP_DATA", "/x")
    assert needs_data(Cluster(), [])


@pytest.mark.slow
@pytest.mark.parametrize(("experiment", "needed"), [("demo", False), ("fashion", True)])
def test_check_asks_for_data_where_the_experiment_reads_files(monkeypatch, experiment, needed):
    monkeypatch.setenv("SAP_SWEEP_DATA", "/x")
    assert needs_data(Cluster(), [f"experiment={experiment}"]) is needed


def test_a_node_without_a_named_data_folder_is_not_tested_for_one():
    found = check_data(None)
    assert (found.name, found.remedy) == ("data", "")
    assert "not tested" in found.detail
