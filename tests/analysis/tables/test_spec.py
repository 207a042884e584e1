import pytest

from analysis.tables import spec
from sap_core.errors import UserError

GOOD = """
name: mine
title: SAP by seed
rows: {method: [vanilla, sap]}
columns:
  - {where: {network: resnet18}, label: A}
"""


def test_a_table_is_read():
    read = spec.parse(GOOD, "mine.yaml")
    assert [dict(line.each) for line in read.rows] == [{"method": ("vanilla", "sap")}]
    assert (read.columns[0].label, read.value, read.selection) == ("A", "test_acc", spec.Policy())
    assert len(read.row_groups) == 1


def test_the_papers_tables_are_shipped_and_sound():
    assert spec.with_published() == (
        "table1", "table2", "table3", "ablation_alpha", "ablation_trusted_size", "ablation_trusted_strategy", "compute",
    )  # fmt: skip
    assert spec.shipped() == (*spec.with_published(), "trusted_size", "corrective", "robust", "trainers", "prl", "prune4rel")
    assert all(spec.shipped_spec(name).name == name for name in spec.shipped())


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (GOOD + "valeu: x", "unknown key 'valeu' in t.yaml (did you mean 'value'?)"),
        (GOOD.replace("label: A", "lable: A"), "unknown key 'lable' in column 1 of t.yaml (did you mean 'label'?)"),
        (GOOD + "selection: {rul: x}", "unknown key 'rul' in 'selection' of t.yaml"),
        (GOOD + "selection: {rule: best}", "unknown selection.rule 'best' in t.yaml"),
        (GOOD + "selection: {over: cells}", "unknown selection.over 'cells'"),
        (GOOD + "selection: {fallback: maybe}", "unknown selection.fallback 'maybe'"),
        (GOOD + "published: table9", "unknown published table 'table9'"),
        ("name: x\ntitle: y\nrows: {a: [1]}", "has no 'columns'"),
        ("- 1", "is a list; it must be a mapping of keys to values"),
        ("", "is empty; it must be a mapping of keys to values"),
        ("a: [", "t.yaml, line 1: did not find expected node content; indent keys of one level alike, close brackets"),
        (GOOD.replace("name: mine", "name: a/b"), "may contain only letters"),
        (GOOD.replace("{network: resnet18}", "{network: [a, b]}"), "is a list; it must be a single value"),
        (GOOD.replace("label: A", "rank: 3"), "'rank' in column 1 of t.yaml is 3; it must be true or false"),
        (GOOD.replace("label: A", "decimals: many"), "it must be an integer from 0 to 9"),
        (GOOD + "notes: once", "'notes' of t.yaml is a string; it must be a list"),
        (GOOD + "filter: [1]", "'filter' of t.yaml is a list; it must be a mapping"),
        (GOOD + "tables: [dataset]", "'tables' of t.yaml is a list; it must be a mapping"),
        (GOOD + "tables: {dataset: digits}", "dataset of tables of t.yaml is a string; it must be a list"),
        (GOOD + "at_least: {row: 2}", "unknown key 'row' in 'at_least' of t.yaml (did you mean 'rows'?)"),
        (GOOD + "at_least: {rows: two}", "at_least.rows of t.yaml is 'two'; it must be an integer from 0 to 9"),
        (GOOD.replace("label: A", "rule: best"), "unknown rule 'best' in column 1 of t.yaml"),
        (GOOD.replace("label: A", "optional: 1"), "'optional' in column 1 of t.yaml is 1; it must be true or false"),
    ],
    ids=range(23),
)
def test_mistakes_are_one_sentence(text, message):
    with pytest.raises(UserError) as caught:
        spec.parse(text, "t.yaml")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_none(tmp_path):
    with pytest.raises(UserError, match="cannot be read"):
        spec.read(tmp_path / "none.yaml")
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match="line 1: the file is encoded in UTF-16; save it as UTF-8"):
        spec.read(tmp_path / "binary.yaml")
