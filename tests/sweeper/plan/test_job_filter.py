"""Filtering jobs with only=, without a change of ids."""

from __future__ import annotations

import pytest

from sap_core.errors import UserError
from sweeper.plan.job_filter import filter_jobs, matching_cells, parse_filter


def labels(jobs):
    return {(job.labels["method"], job.labels["network"], job.labels["noise_rate"]) for job in jobs}


def test_words_become_columns():
    assert parse_filter("network=resnet18 noise.rate=0.25 method=sap,scrub") == {
        "network": ("resnet18",), "noise_rate": ("0.25",), "method": ("sap", "scrub"),
    }  # fmt: skip
    assert parse_filter("model=vgg11_bn") == {"network": ("vgg11_bn",)}
    assert parse_filter(None) is None
    assert parse_filter("") is None


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("method", "'method' is not KEY=VALUE[,VALUE]; keys: dataset, noise, noise.rate"),
        ("method=", "'method=' is not KEY=VALUE[,VALUE]"),
        ("method=sap scrub", "'scrub' is not KEY=VALUE[,VALUE]"),
        ("metod=sap", "unknown key 'metod' in only (did you mean 'method'?)"),
    ],
)
def test_mistakes(text, said):
    with pytest.raises(UserError) as caught:
        parse_filter(text)
    assert said in str(caught.value)


def test_the_jobs_that_match_and_their_parents_stay(table1):
    kept = filter_jobs(table1.plan.jobs, parse_filter("network=resnet18 noise.rate=0.10 method=sap,retrain dataset=cifar10"))
    assert labels(kept) == {(method, "resnet18", 0.1) for method in ("vanilla", "sap", "retrain")}
    assert {job.labels["noise"] for job in kept} == {"symmetric", "asymmetric", "hierarchical"}
    assert len(kept) == 3 * 3 * 3
    assert list(kept) == [job for job in table1.plan.jobs if job in kept], "order and ids stay"
    here = {job.job_id for job in kept}
    assert all(set(job.parents) <= here for job in kept)


def test_parents_of_matching_jobs_are_included(plan_of):
    plan = plan_of("experiment=demo", "cells=[{pruner: [none, uniform], keep_fraction: 0.3}]", "seeds=[1,2]", "methods=[sap]").plan
    kept = filter_jobs(plan.jobs, parse_filter("pruner=uniform method=sap seed=2"))
    assert [job.job_type for job in kept] == ["train", "select", "train", "tune"]
    assert {job.labels["seed"] for job in kept} == {2}


def test_the_cells_of_matching_jobs_are_those_whose_data_are_needed(plan_of):
    plan = plan_of(
        "experiment=demo",
        "cells=[{dataset: digits, noise: none}, {dataset: fashion_mnist, noise: none, model: lenet5}]",
        "seeds=[1]",
        "methods=[sap]",
    ).plan
    assert matching_cells(plan.jobs, parse_filter("dataset=digits")) == {0}
    assert matching_cells(plan.jobs, parse_filter("dataset=fashion_mnist method=sap")) == {1}
    assert matching_cells(plan.jobs, parse_filter("method=sap")) == {0, 1}
    with pytest.raises(UserError, match="unknown value of only=dataset"):
        matching_cells(plan.jobs, parse_filter("dataset=digit"))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("method=spa", "unknown value of only=method 'spa' (did you mean 'sap'?); allowed: finetune, retrain, sap, scrub, ssd"),
        ("noise.rate=0.2", "unknown value of only=noise_rate '0.2' (did you mean '0.25'?); allowed: 0.1, 0.25"),
        ("seed=12485", "unknown value of only=seed '12485' (did you mean '12484'?)"),
        ("network=vgg11_bn noise=asymmetric", "only= matches no job"),
    ],
)
def test_values_that_no_job_has_are_reported(table1, text, said):
    with pytest.raises(UserError) as caught:
        filter_jobs(table1.plan.jobs, parse_filter(text))
    assert said in str(caught.value)
