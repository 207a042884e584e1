import csv
import io

import pytest

from analysis.__main__ import main
from analysis.reference.published import quotes
from analysis.reports.report import experiment_tables
from analysis.store.labels import DASH, MISSING
from analysis.store.load import load
from analysis.tables.csv_text import to_csv
from analysis.tables.described import described_tables
from analysis.tables.render import flat
from analysis.tables.spec import parse, shipped_spec
from sap_core.errors import UserError

MINE = """
name: mine
title: Mine
filter: {trainer: sgd, noise: symmetric}
row_groups: {dataset: all}
rows: {each: {method: all}}
columns:
  - {where: {network: resnet18}, each: {noise_rate: [0.25, 0.10]}, group: ResNet18}
  - {where: {network: resnet18, noise_rate: 0.25}, value: gain, label: Gain}
  - {where: {network: resnet18, noise_rate: 0.25}, value: chosen.alpha, label: alpha, rank: false}
order: {method: [sap, vanilla]}
names: {method: {sap: "SAP 100% & more_"}, noise_rate: {0.25: a quarter}}
notes: ["50% & #1_a"]
"""


def cells_of(table):
    """(row group, row, column group, head) -> cell."""
    flattened = flat(table)
    start = 1 if table.titles else 0
    keys = [(column.group, column.head) for column in table.columns[1:]]
    return {
        ((row[0].text,) if start else ()) + (row[start].text, *key): cell
        for row in flattened.rows
        for key, cell in zip(keys, row[start + 1 :], strict=True)
    }


def test_table1_has_the_papers_layout(made):
    (table,) = described_tables(shipped_spec("table1"), load([made("table1")]))
    assert list(table.titles.values()) == ["CIFAR-10", "CIFAR-100"]
    assert [row[0].text for row in table.rows] == ["Retrain", "Vanilla", "Finetune", "SSD", "SCRUB", "SAP"] * 2
    assert [(column.group, column.head) for column in table.columns[1:]] == [
        ("Verified samples", "retain"), ("Verified samples", "forget"),
        *((group, rate) for group in (
            "VGG11-BN, symmetric", "ResNet18, symmetric", "ResNet18, asymmetric", "ResNet18, hierarchical") for rate in ("10 %", "25 %")),
        ("", "Average"),
    ]  # fmt: skip
    cells = cells_of(table)
    sap = cells["CIFAR-10", "SAP", "ResNet18, symmetric", "25 %"]
    assert (sap.text, sap.rank) == ("85.49 ± 0.40", 1)
    assert sap.value == pytest.approx(85.49)
    assert cells["CIFAR-10", "SCRUB", "VGG11-BN, symmetric", "10 %"].rank == 0  # SSD is second there
    assert cells["CIFAR-10", "SSD", "VGG11-BN, symmetric", "10 %"].rank == 2
    assert cells["CIFAR-10", "Retrain", "VGG11-BN, symmetric", "10 %"].rank == 0
    assert cells["CIFAR-10", "SCRUB", "Verified samples", "forget"].text == "200"
    means = [quote.mean for quote in quotes("table1") if quote.is_about({"dataset": "cifar100", "method": "sap"})]
    assert cells["CIFAR-100", "SAP", "", "Average"].value == pytest.approx(sum(means) / 8)
    for sentence in (
        "n = 3 seeds (12484, 32087, 35416)",
        "sample standard deviation",
        "Settings selected per seed by val_noisy",
        "SCRUB 1000 retain + 200 forget (oracle)",
    ):
        assert sentence in table.caption
    assert "0 of 240 searches" in " ".join(table.notes)


def test_equal_as_printed_shares_a_rank(maker, papers):
    for network in ("vgg11_bn", "resnet18"):
        papers.add_cell(
            maker, dataset="cifar10", noise="symmetric", rate=0.10, network=network, vanilla=70.0,
            methods={"finetune": 80.001, "ssd": 80.0, "scrub": 79.0, "sap": 75.0, "retrain": 90.0},
        )  # fmt: skip
    (table,) = described_tables(shipped_spec("table1"), load([maker.write()]))
    cells = cells_of(table)
    ranks = {row: cell.rank for (row, group, head), cell in cells.items() if (group, head) == ("VGG11-BN, symmetric", "10 %")}
    assert ranks == {"Retrain": 0, "Vanilla": 0, "Finetune": 1, "SSD": 1, "SCRUB": 2, "SAP": 0}


def test_an_oracle_is_never_bold(made):
    spec = shipped_spec("table3")
    (table,) = described_tables(
        parse(spec.text.replace("rank: false}", "rank: true}") + "\nselection: {rule: test_oracle}", "t"), load([made("table3")])
    )
    assert not any(cell.rank for row in table.rows for cell in row)
    assert "an upper bound, never a result" in table.caption


def test_incomplete_entries_are_marked_and_counted(made):
    (table,) = described_tables(shipped_spec("table1"), load([made("partial")]))
    cells = cells_of(table)
    assert table.cell == "CIFAR-10"  # a single row group needs no title
    lost_setting = cells["SCRUB", "VGG11-BN, symmetric", "10 %"]
    lost_baseline = cells["SAP", "VGG11-BN, symmetric", "25 %"]
    assert (lost_setting.marks, lost_setting.rank) == ("‡", 0)
    assert lost_setting.value == pytest.approx(85.88)  # the other setting is the better one
    assert (lost_baseline.marks, round(lost_baseline.value, 2)) == ("‡", 82.47)  # two of three seeds
    assert cells["SAP", "ResNet18, hierarchical", "25 %"].text == MISSING
    assert cells["SAP", "", "Average"].text == MISSING
    assert "‡ Incomplete, not ranked: 7 of 48 entries, because runs are missing or failed." in table.caption
    assert "6 of 48 entries are not in the plan" in table.caption


def test_side_by_side_with_the_published_numbers(made):
    tables = described_tables(shipped_spec("table1"), load([made("table1")]), "both")
    assert [table.cell for table in tables] == ["CIFAR-10", "CIFAR-100"]
    cells = cells_of(tables[0])
    known, unknown = "ResNet18, symmetric, 25 %", "ResNet18, hierarchical, 25 %"
    assert [cells["SAP", known, head].text for head in ("ours", "published", "difference")] == ["85.49 ± 0.40", "85.49 ± 0.39", "0.00"]
    heads = [head for row, group, head in cells if (row, group) == ("SAP", unknown)]
    assert heads == ["ours", "published a", "difference a", "published b", "difference b"]
    assert [cells["SAP", unknown, head].text for head in heads] == ["87.92 ± 0.40", "86.32 ± 0.66", "+1.60", "87.92 ± 0.69", "0.00"]
    assert cells["SAP", "Average", "published"].value == pytest.approx(87.65875)
    assert all("hierarchical is not known, so each of ours is compared with both" in table.caption for table in tables)
    lines = list(csv.DictReader(io.StringIO(to_csv(tables))))
    assert len(lines) == 12
    assert len(set(lines[0])) == len(lines[0])


def test_published_numbers_alone():
    (table,) = described_tables(shipped_spec("table1"), None, "published")
    cells = cells_of(table)
    assert len(table.rows) == 12
    assert cells["CIFAR-100", "SAP", "ResNet18, non-symmetric b", "25 %"].text == "60.76 ± 0.50"
    assert [column.group for column in table.columns[-5:]] == ["ResNet18, non-symmetric a"] * 2 + ["ResNet18, non-symmetric b"] * 2 + [""]
    (second,) = described_tables(shipped_spec("table2"), None, "published")
    published = cells_of(second)
    assert published["CIFAR-100, ResNet18, symmetric, 25 %", "Average", "", "Improvement"].text == "+2.96"  # recomputed, not as printed
    (third,) = described_tables(shipped_spec("table3"), None, "published")
    assert cells_of(third)["Clothing1M, ViT-B/16", "", "SAP"].text == "71.43 ± 0.60"


@pytest.mark.parametrize(
    ("name", "place", "text"),
    [
        ("table2", ("CIFAR-10, ResNet18, symmetric, 25 %", "SAM", "", "Improvement"), "+4.00 ± 0.00"),
        ("table3", ("Average", "", "SAP"), "68.60"),
        ("ablation_alpha", ("3,000", "CIFAR-10", "VGG11-BN"), "68.26 ± 0.40"),
        ("ablation_trusted_size", ("5,000", "CIFAR-100", "ResNet18"), "60.60 ± 0.40"),
        ("ablation_trusted_strategy", ("Lowest curvature, 25 % skipped", "CIFAR-100", "VGG11-BN"), "56.11 ± 0.40"),
    ],
)
def test_the_other_tables(made, name, place, text):
    results = load([made(name)])
    assert experiment_tables(results) == [name]
    (table,) = described_tables(shipped_spec(name), results)
    assert cells_of(table)[place].text == text
    if name.startswith("ablation"):  # what harms is shown, not replaced by the unmodified model (60 %)
        assert min(cell.value for row in table.rows for cell in row[1:] if cell.value is not None) < 60


def test_the_compute_comparison(made):
    tables = described_tables(shipped_spec("compute"), load([made("table1")]))
    assert len(tables) == 4  # 16 cells of the sweep, at most 35 rows in one table
    cells = cells_of(tables[0])
    place = "CIFAR-10, ResNet18, symmetric, 25 %"
    assert cells[place, "Training", "Selected setting, standalone", "SAP = 1"].value == pytest.approx(20.0)  # 4e15 against 2e14
    assert cells[place, "Training", "Complete search", "SAP = 1"].text == MISSING  # a training is no search
    assert cells[place, "SCRUB, one setting", "Complete search", "settings"].text == "2"
    (published,) = described_tables(shipped_spec("compute"), None, "published")
    assert [row[1].text for row in published.rows] == ["1.00", "26.00", "34.70", "69.40"]


def test_a_users_own_file(made, tmp_path, capsys):
    path = tmp_path / "mine.yaml"
    path.write_text(MINE)
    assert main([str(made("table1")), "table", str(path)]) == 0
    output = capsys.readouterr().out
    assert output.index("\nSAP 100% & more_") < output.index("\nVanilla") < output.index("\nRetrain")
    assert "a quarter" in output
    assert "+6.02 ± 0.00" in output  # SAP's gain on CIFAR-10
    assert main([str(made("table1")), "table", str(path), "--format", "latex"]) == 0
    assert r"SAP 100\% \& more\_" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("text", "words", "message"),
    [
        (
            MINE.replace("{network: resnet18}", "{netwrok: resnet18}"),
            [],
            "unknown field 'netwrok' in the table 'mine' (did you mean 'network'?)",
        ),
        (MINE.replace("value: gain", "value: gian"), [], "unknown value 'gian' in the table 'mine' (did you mean 'gain'?)"),
        (MINE.replace("network: resnet18, noise_rate: 0.25", "noise_rate: 0.25"), [], "matches 2 cells of the store"),
        (MINE, ["--show", "both"], "has no published numbers to compare with"),
    ],
    ids=["field", "value", "cells", "published"],
)
def test_mistakes_in_a_users_file(made, tmp_path, capsys, text, words, message):
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    assert main([str(made("table1")), "table", str(path), *words]) == 2
    output = capsys.readouterr().err
    assert message in output
    assert output.count("\n") == 1


def test_a_table_that_a_store_is_not_for(small, capsys):
    assert main([str(small.write()), "table", "table1"]) == 2
    assert "has no numbers for the table 'table1'" in capsys.readouterr().err
    assert main([str(small.path), "table", "comparison", "--select", "pooled"]) == 2
    assert "has no option --select; these tables have it: table1" in capsys.readouterr().err


@pytest.mark.slow
def test_several_stores_are_one_table(made, maker, papers, tmp_path):
    halves = []
    for name in ("cifar10", "cifar100"):
        half = type(maker)(tmp_path / name)
        halves.append(papers.table1(half, datasets=(name,)).write())
    one, two = (described_tables(shipped_spec("table1"), load(stores)) for stores in ([made("table1")], halves))
    assert [row for table in one for row in table.rows] == [row for table in two for row in table.rows]


@pytest.mark.slow
def test_stores_that_disagree_about_a_run_or_a_space(made, maker, papers, tmp_path, capsys):
    one, other = (papers.table1(type(maker)(tmp_path / name), datasets=("cifar10",)) for name in ("one", "other"))
    place = next(n for n, row in enumerate(other.rows) if row.method == "sap" and row.position == 0)
    other.rows[place] = type(other.rows[place])(**{**vars(other.rows[place]), "test_acc": 0.5})
    stores = [str(one.write()), str(other.write())]
    assert main([*stores, "table", "table1"]) == 1  # neither of the two counts
    captured = capsys.readouterr()
    assert f"Run {other.rows[place].run_id} (sap, alpha16, seed 12484) is stored with different scores" in captured.err
    assert "because runs are missing or failed" in " ".join(captured.out.split())
    third = type(maker)(tmp_path / "third")
    papers.table1(third, datasets=("cifar10",))
    third.plan = [
        type(line)(**{**vars(line), "run_id": f"x{line.run_id}", "space_hash": "other"}) if line.method == "sap" else line
        for line in third.plan
    ]
    assert main([stores[0], str(third.write()), "table", "table1"]) == 2
    assert "define the space 'alpha16' of sap on cifar10/symmetric-0.1/vgg11_bn/sgd differently" in capsys.readouterr().err


SMALL = """
name: mine
title: Mine
filter: {trainer: sgd}
row_groups: {dataset: all}
rows: {each: {method: all}}
columns:
  - {each: {noise_rate: [0.25]}}
  - {value: gain, label: Gain}
  - {value: chosen.alpha, label: alpha}
"""


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("chosen.alpha", "chosen.alfa", "unknown hyperparameter 'alfa' in 'value' of the table 'mine' (did you mean 'alpha'?); allowed: "),
        ("{each: {method: all}}", "{method: [vanilla, sapp]}", "unknown method 'sapp' in the table 'mine' (did you mean 'sap'?)"),
        ("{dataset: all}", "{dataset: [digit]}", "unknown dataset 'digit' in the table 'mine' (did you mean 'digits'?); allowed: digits"),
        ("trainer: sgd", "trainer: sdg", "unknown trainer 'sdg' in the table 'mine' (did you mean 'sgd'?); allowed: sgd"),
        ("[0.25]", "[0.25, 0.26]", "unknown noise_rate '0.26' in the table 'mine' (did you mean '0.25'?); allowed: 0.25"),
        ("value: gain", "relative_to: {method: vanila}", "unknown method 'vanila' in the table 'mine' (did you mean 'vanilla'?)"),
        ("trainer: sgd", "alpha: 3000", "unknown alpha '3000' in the table 'mine' (did you mean '30000'?); allowed: 30000, 10000, 2000"),
        ("trainer: sgd", "num_trusted: 17", "unknown num_trusted '17' in the table 'mine'; allowed: 200"),
        ("trainer: sgd", "alpha: '3e4'", "alpha in the table 'mine' is the text '3e4'; write the number 30000"),
    ],
    ids=["hyperparameter", "row", "row group", "filter", "column", "relative_to", "setting", "column of rows", "text"],
)  # fmt: skip
def test_a_users_file_names_what_the_store_has(small, tmp_path, capsys, old, new, message):
    path = tmp_path / "mine.yaml"
    assert old in SMALL
    path.write_text(SMALL.replace(old, new))
    assert main([str(small.write()), "table", str(path)]) == 2
    output = capsys.readouterr().err
    assert message in output
    assert output.count("\n") == 1


def test_a_column_of_rows_is_open_until_all_runs_are_stored(small):
    small.add("late", job_type="tune", method="sap", seed=1, baseline_id="base-1", space="late", settings={"alpha": 1e-05}, run=False)
    (table,) = described_tables(parse(SMALL.replace("trainer: sgd", "num_trusted: 17"), "t"), load([small.write()]), checked=True)
    assert "Vanilla" in [row[0].text for row in table.rows]
    with pytest.raises(UserError, match=r"allowed: 30000, 10000, 2000, 1\.0e-05"):
        described_tables(parse(SMALL.replace("trainer: sgd", "alpha: 5"), "t"), load([small.path]), checked=True)


def test_values_of_a_users_file_that_are_no_mistakes(made, tmp_path, capsys):
    path = tmp_path / "mine.yaml"
    # Absent values, flags that no cell has, and numbers written in another form.
    path.write_text(MINE.replace("trainer: sgd", "pruner: null, stage: null, pruned: false, tuned: true").replace("0.10]", "1.0e-1]"))
    assert main([str(made("table1")), "table", str(path)]) == 0
    assert "a quarter" in capsys.readouterr().out
    # The run of Scrub's setting is missing, not planned otherwise.
    path.write_text(MINE.replace("{method: all}", "{method: [vanilla, scrub]}"))
    assert main([str(made("partial")), "table", str(path)]) == 0


def test_a_shipped_table_lists_what_a_store_may_lack(maker, papers):
    papers.add_cell(maker, dataset="cifar10", noise="symmetric", rate=0.10, network="resnet18", vanilla=70.0, methods={"sap": 75.0})
    (table,) = described_tables(shipped_spec("table1"), load([maker.write()]))
    assert "SAP" in [row[0].text for row in table.rows]


HYPERPARAMETERS = """
name: chosen_settings
title: Selected
rows: {method: [scrub, sap]}
columns:
  - {value: chosen.lr, label: lr}
  - {value: chosen.alpha, label: alpha}
  - {value: chosen.alpha, label: fixed, decimals: 1}
  - {value: chosen.learning_rate, label: rate}
"""


def test_selected_hyperparameters_are_printed_as_they_were_chosen(maker):
    alphas = [3000.0, 3000.0, 2000.0]
    for seed, alpha in enumerate(alphas):
        maker.baseline(seed, 0.60, 0.75, 0.74)
        settings = [{"alpha": value} for value in (3000.0, 2000.0)]
        scores = [(0.64 if value["alpha"] == alpha else 0.62, 0.8, 0.8) for value in settings]
        maker.search("sap", "alpha16", seed, settings, scores)
        maker.search("scrub", "grid_a", seed, [{"lr": 0.001, "learning_rate": 1e-05 * 10**seed}], [(0.63, 0.76, 0.77)])
    (table,) = described_tables(parse(HYPERPARAMETERS, "t"), load([maker.write()]), checked=True)
    scrub, sap = table.rows
    assert [cell.text for cell in scrub] == ["SCRUB", "0.001", MISSING, MISSING, f"1e-05{DASH}0.001"]
    assert [cell.text for cell in sap] == ["SAP", MISSING, f"2000{DASH}3000", f"2000.0{DASH}3000.0", MISSING]
    assert sap[2].value == pytest.approx(8000 / 3)
    assert not any(cell.rank or cell.std for row in table.rows for cell in row)
    (line,) = [line for line in csv.DictReader(io.StringIO(to_csv([table]))) if line["row"] == "SAP"]
    assert float(line["chosen.alpha_alpha"]) == pytest.approx(8000 / 3)


def test_averages_of_hyperparameters_have_significant_digits(maker):
    maker.baseline(1, 0.60, 0.75, 0.74)
    for method, rate in (("scrub", 0.001), ("ssd", 0.0005), ("finetune", 0.0005)):
        maker.search(method, "grid", 1, [{"lr": rate}], [(0.63, 0.76, 0.77)])
    rows = "[{each: {method: [scrub, ssd, finetune]}}, {average: true, label: Average}]"
    text = f"name: t\ntitle: T\nrows: {rows}\ncolumns: [{{value: chosen.lr}}]"
    (table,) = described_tables(parse(text, "t"), load([maker.write()]), checked=True)
    assert [row[1].text for row in table.rows] == ["0.001", "0.0005", "0.0005", "0.0006667"]
