"""What stands under a table: the rule of selection, what ± is, the information used, the noise, the cost's definition, what is missing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import pandas as pd

from analysis.store.labels import MEASURES, counted, method_label, plain, seconds, span
from analysis.store.load import Results
from analysis.store.results import CellResult, SearchResult
from analysis.store.selection_rule import RULES, TIES
from analysis.store.stats import summarise
from analysis.tables.entries import Entry
from analysis.tuning.cost import circumstances, exclusive_device

EDGE, GAP, SHARED = "†", "‡", ""

COST = (
    "Tuning cost: compute of one seed's whole search, failed settings included, added up over workers; shared is what was spent, "
    "with work common to several settings done once; alone is what the settings would cost if each ran by itself. "
    "The training of the baseline and the platform's own test scores are in neither."
)

OWN_CORES = (
    "Seconds are of jobs that had cores (or a GPU) of their own while others of the sweep ran beside them; caches and memory bandwidth "
    "were shared, and what other programs did is not known."
)
NO_SECONDS = (
    f"{SHARED} No seconds: jobs shared their cores or their GPU, or the rows do not say. FLOPs and sample passes do not depend on that."
)


def cell_title(cell: CellResult) -> str:
    """`digits, symmetric noise 25 %, small_cnn trained by sgd`; the cell's name when it has no rows."""
    if cell.rows.empty:
        return cell.name
    row = cell.rows.iloc[0]
    return f"{row['dataset']}, {noise_words(row)}, {row['network']} trained by {row['trainer']}"


def noise_words(row: pd.Series) -> str:
    """`symmetric noise 25 %`; noise that people made has no rate that was asked for."""
    if pd.isna(row["noise_rate"]):
        return f"{row['noise']} noise"
    return f"{row['noise']} noise {row['noise_rate'] * 100:g} %" if row["noise_rate"] > 0 else "no added noise"


def notes(results: Results, cell: CellResult, listed: Sequence[Entry], rules: Sequence[str]) -> tuple[str, ...]:
    """The sentences under the comparison, in reading order."""
    kept = sum(choice.kept for entry in listed for choice in entry.chosen[rules[0]])
    searches = sum(len(entry.searches) for entry in listed)
    said = [
        *(f"{rule}: {RULES[rule].format(score=MEASURES[cell.measure].name)}." for rule in rules),
        f"{TIES} Under {rules[0]} it was kept in {kept} of {counted(searches, 'search', 'searches')}.",
        f"n = {counted(len(cell.seeds), 'seed')} ({', '.join(str(seed) for seed in cell.seeds)}); ± is their sample standard deviation "
        f"(n - 1). Gain, trusted set and wrong labels are under {rules[0]}; gains are paired by seed.",
        *_data(cell.rows),
        COST,
        *seconds_notes(cell, [search for entry in listed for search in entry.searches]),
        *_columns(listed, rules),
        *_edges(listed, rules),
        *_gaps(cell, listed, rules),
        *_spaces(listed),
        *circumstances(cell.rows),
        *results.problems,
    ]
    return tuple(said)


def _data(rows: pd.DataFrame) -> list[str]:
    """Sizes, noise asked and true, how well the baselines fit the given labels."""
    baselines = rows[(rows["job_type"] == "train") & (rows["status"] == "ok")]
    if baselines.empty:
        return []
    said = []
    sizes = [
        f"{span(baselines[f'num_{split}'])} {word}" for split, word in (("train", "training"), ("val", "validation"), ("test", "test"))
    ]
    said.append(f"{', '.join(sizes[:2])} and {sizes[2]} samples.")
    if baselines["noise_rate_measured"].notna().any():
        asked = (
            f"Noise rate {span(baselines['noise_rate'] * 100, 1)} % asked"
            if baselines["noise_rate"].notna().any()
            else "No noise rate asked"
        )
        said.append(f"{asked}, {span(baselines['noise_rate_measured'] * 100, 1)} % of the training labels really wrong.")
    if baselines["train_acc"].notna().any():
        took = summarise(baselines["train_seconds"])
        time = "" if took.mean is None or not exclusive_device(baselines) else f"; training one took {seconds(took.mean)} s"
        said.append(f"The baselines fit their given training labels to {span(baselines['train_acc'] * 100, 1)} %{time}.")
    if not baselines["dataset_verified"].all():
        said.append("The data set's files were not checked against the published checksums.")
    if (rows["val_labels"] == "clean").any():
        said.append("The given labels of the validation set are clean.")
    return said


def seconds_notes(cell: CellResult, searches: Sequence[SearchResult]) -> list[str]:
    """What the seconds of the searches mean, and where there are none."""
    own = [exclusive_device(search.rows) for search in searches if search.rows["tuning_seconds"].notna().any()]
    beside = (cell.rows["jobs_on_device"] > 1).any()
    return [*([OWN_CORES] if any(own) and beside else []), *([] if all(own) else [NO_SECONDS])]


def _columns(listed: Sequence[Entry], rules: Sequence[str]) -> list[str]:
    said = []
    sources = {str(row["information"]) for entry in listed for search in entry.searches for _, row in search.rows.head(1).iterrows()}
    meanings = {
        "scored": "scored: picked by a score from the given labels, nothing verified",
        "oracle": "oracle: the data set's true labels were looked up",
        "verified_file": "verified file: samples that somebody has verified",
    }
    if sources & set(meanings):
        said.append("Information: " + "; ".join(text for name, text in meanings.items() if name in sources) + ".")
    if any(
        choice.row is not None and pd.notna(choice.row["mislabelled_given_acc"]) for entry in listed for choice in entry.chosen[rules[0]]
    ):
        said.append(
            "Wrong labels: of the wrongly labelled training samples, the share predicted as their given and as their true label; before "
            "correction in the row of Vanilla, after it in the others. Trusted right: share of the trusted samples whose label is true."
        )
    return said


def _edges(listed: Sequence[Entry], rules: Sequence[str]) -> list[str]:
    said = []
    for rule in rules:
        found = []
        for entry in listed:
            counted = Counter((edge.field, edge.side, edge.value) for choice in entry.chosen[rule] for edge in choice.boundary_values)
            parts = [
                f"{field} = {plain(value)} ({side}, {count} of {len(entry.searches)} seeds)"
                for (field, side, value), count in counted.items()
            ]
            if parts:
                found.append(f"{method_label(entry.method, entry.space)} {', '.join(parts)}")
        if found:
            said.append(f"{EDGE} The value chosen by {rule} is at an edge of its range: {'; '.join(found)}.")
    return said


def _gaps(cell: CellResult, listed: Sequence[Entry], rules: Sequence[str]) -> list[str]:
    said = []
    lost = [str(baseline.seed) for baseline in cell.baselines if baseline.row is None]
    if lost:
        said.append(f"{GAP} No row for the uncorrected baseline of seed {', '.join(lost)}.")
    for entry in listed:
        label = method_label(entry.method, entry.space)
        missing, planned = sum(search.missing for search in entry.searches), sum(len(search.planned) for search in entry.searches)
        if missing:
            said.append(f"{GAP} {label}: {missing} of {planned} planned settings have no row; not ranked.")
        for rule in rules:
            reasons: dict[str, list[str]] = {}
            for search, choice in zip(entry.searches, entry.chosen[rule], strict=True):
                if choice.problem:
                    reasons.setdefault(choice.problem, []).append(str(search.seed))
            said += [f"{GAP} {label}, {rule}: nothing chosen for seed {', '.join(seeds)}: {reason}." for reason, seeds in reasons.items()]
    return said


def _spaces(listed: Sequence[Entry]) -> list[str]:
    hashes: dict[str, str] = {}
    for entry in listed:
        known = [str(name) for search in entry.searches for name in search.planned["space_hash"].dropna().unique()]
        if known:
            hashes[method_label(entry.method, entry.space)] = "/".join(dict.fromkeys(known))
    return [f"Search spaces, by their hashes: {', '.join(f'{label} {value}' for label, value in hashes.items())}."] if hashes else []
