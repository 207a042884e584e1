import pytest

from analysis.claims.spec import SHIPPED, Region, parse, read
from sap_core.errors import UserError

GOOD = """
claims:
  ahead:
    claim: SAP is ahead.
    of: {method: sap}
    against: {method: scrub}
    more_than: 0
"""


def test_a_file_is_read():
    claims = parse(GOOD, "mine.yaml")
    (claim,) = claims.claims
    assert (claim.name, claim.label, claim.cells, claim.region) == ("ahead", "ahead", "every", Region(low=0, strict=True))
    assert (claims.title, claims.policy.rule) == ("Claims", "val_noisy")


def test_the_papers_claims_are_shipped():
    claims = read(SHIPPED)
    assert {claim.name for claim in claims.claims} >= {"gain_in_every_cell", "alpha_30000", "trusted_1000", "robust_training", "searches"}
    sizes = {claim.name: claim.expected for claim in claims.claims if claim.name.startswith("by_")}
    assert sizes == {"by_1_36_points": 1.36, "by_0_39_points": 0.39}


@pytest.mark.parametrize(
    ("predicate", "region"),
    [
        ("more_than: 1", Region(low=1, strict=True)),
        ("at_least: -1", Region(low=-1)),
        ("size: 3", Region(2.5, 3.5)),
        ("size: 3\n    within: 1", Region(2, 4)),
    ],
)
def test_predicates_are_regions(predicate, region):
    assert parse(GOOD.replace("more_than: 0", predicate), "mine.yaml").claims[0].region == region


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "the file of claims 't.yaml' is empty"),
        ("claims: {}", "'claims' of t.yaml is empty; it must map names to claims"),
        ("a: [", "t.yaml, line 1: "),
        (GOOD + "rule: best", "unknown rule 'best' in t.yaml"),
        (GOOD + "names: {}", "unknown key 'names' in t.yaml"),
        (GOOD.replace("against", "agianst"), "unknown key 'agianst' in claim 'ahead' of t.yaml (did you mean 'against'?)"),
        (GOOD.replace("claim: SAP is ahead.", "claim: ''"), "has no 'claim'; it must be one sentence"),
        (GOOD.replace("{method: scrub}", "{space: grid_a}"), "'against' of claim 'ahead' of t.yaml has no 'method'"),
        (GOOD.replace("more_than: 0", ""), "must have one of more_than, at_least, size; it has none"),
        (GOOD + "    size: 1", "it has 'more_than' and 'size'"),
        (GOOD.replace("more_than: 0", "more_than: much"), "'more_than' of claim 'ahead' of t.yaml is 'much'; it must be a number"),
        (GOOD.replace("more_than: 0", "more_than: .nan"), "is nan; it must be a number of percentage points"),
        (GOOD.replace("more_than: 0", "more_than: true"), "is True; it must be a number of percentage points"),
        (GOOD + "    within: 1", "'within' of claim 'ahead' of t.yaml belongs to 'size'"),
        (GOOD.replace("more_than: 0", "size: 1\n    within: 0"), "'within' of claim 'ahead' of t.yaml is 0; it must be above 0"),
        (GOOD + "    cells: all", "unknown cells 'all' in claim 'ahead' of t.yaml"),
        (GOOD + "    sample: images", "unknown sample 'images'"),
        (GOOD + "    published: [table9]", "unknown published table 'table9'"),
        (GOOD + "    published: table1", "'published' of claim 'ahead' of t.yaml is a string; it must be a list"),
        (GOOD + "    every_other: alpha", "'of' gives no value of it"),
        (GOOD.replace("sap}", "sap, alpha: 3}") + "    every_other: alpha\n    cells: average", "it must be 'cells: every'"),
        (GOOD + "    where: {data: digits}", "unknown field 'data' in 'where' of claim 'ahead' of t.yaml"),
        (GOOD + "    settings: {sap: 16}", "has 'settings' and 'of'"),
        ("claims: {n: {claim: N., settings: {sap: many}}}", "'sap' in 'settings' of claim 'n' of t.yaml is 'many'"),
    ],
    ids=range(24),
)
def test_mistakes_are_one_sentence(text, message):
    with pytest.raises(UserError) as caught:
        parse(text, "t.yaml")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_one_sentence(tmp_path):
    with pytest.raises(UserError, match="cannot be read"):
        read(tmp_path / "none.yaml")
