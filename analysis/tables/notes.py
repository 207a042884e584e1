"""The sentences printed under tables. All tables take them from here, so that one thing is described in the same words everywhere."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import pandas as pd

from analysis.store.labels import MEASURES, REFERENCES, counted, label_of, method_label, plain, seconds, span
from analysis.store.load import Results
from analysis.store.results import CellResult, SearchResult
from analysis.store.selection_rule import RULES, TIES
from analysis.store.stats import summarise
from analysis.tables.method_rows import MethodRow
from analysis.tuning.cost import circumstances, exclusive_device, per_seed

BOUNDARY_MARK, INCOMPLETE_MARK, NO_SECONDS_MARK = "†", "‡", "§"

INCOMPLETE = f"{INCOMPLETE_MARK} Incomplete: planned seeds or settings without a result, or no setting could be selected; not ranked."

SHORT_NOTES = {
    BOUNDARY_MARK: f"{BOUNDARY_MARK} Selected value at the boundary of its range.",
    INCOMPLETE_MARK: f"{INCOMPLETE_MARK} Incomplete, not ranked.",
    NO_SECONDS_MARK: f"{NO_SECONDS_MARK} No comparable seconds: jobs shared cores or a GPU.",
}
"""Mark -> its explanation in one line, where there is no room for all notes."""

COST = (
    "Tuning cost: compute of the complete search on one seed, summed over workers, failed settings included. Amortised: as spent, work "
    "shared by several settings counted once. Standalone: the sum over the settings of what each would cost if run alone. Training of the "
    "baseline and evaluation on the test set are not included."
)

OWN_CORES = (
    "Seconds were measured with exclusive cores (or an exclusive GPU) per job while other jobs of the sweep ran on the machine; caches and "
    "memory bandwidth were shared, and the load by other programs is not recorded."
)
NO_SECONDS = (
    f"{NO_SECONDS_MARK} No seconds: jobs shared cores or a GPU, or the rows do not record whether they did. FLOPs and sample passes are "
    "not affected."
)

_INFORMATION = {
    "scored": "scored: selected by a score computed from the given labels, without verification",
    "oracle": "oracle: selected with the true labels of the data set",
    "verified_file": "verified file: samples whose labels were verified by hand",
}


def cell_title(cell: CellResult) -> str:
    """`Digits, 25 % symmetric noise, small CNN trained by SGD`; of a network that no sweep trained, `ResNet18 from a checkpoint`.

    Returns the cell's name if it has no rows.
    """
    if cell.rows.empty:
        return cell.name
    row = cell.rows.iloc[0]
    network, trainer = label_of("network", str(row["network"])), label_of("trainer", str(row["trainer"]))
    origin = "from a checkpoint" if row["trainer"] == "given" else f"trained by {trainer}"
    return f"{label_of('dataset', str(row['dataset']))}, {noise_title(row)}, {network} {origin}"


def noise_title(row: pd.Series) -> str:
    """`25 % symmetric noise`; annotators' noise has no nominal rate."""
    noise = f"{label_of('noise', str(row['noise']))} noise"
    if pd.isna(row["noise_rate"]):
        return noise
    return f"{row['noise_rate'] * 100:g} % {noise}" if row["noise_rate"] > 0 else "no added noise"


def rule_note(rule: str, measure: str) -> str:
    """`val_noisy: highest accuracy on the validation set with its given labels.`"""
    return f"{rule}: {RULES[rule].format(score=MEASURES[measure].name)}."


def comparison_notes(results: Results, cell: CellResult, listed: Sequence[MethodRow], rules: Sequence[str]) -> tuple[str, ...]:
    """The notes of the table `comparison`, in reading order."""
    kept = sum(choice.kept for row in listed for choice in row.chosen[rules[0]])
    searches = sum(len(row.searches) for row in listed)
    return (
        *(rule_note(rule, cell.measure) for rule in rules),
        f"{TIES} It was kept in {kept} of {counted(searches, 'search', 'searches')} ({rules[0]}).",
        f"n = {counted(len(cell.seeds), 'seed')} ({', '.join(str(seed) for seed in cell.seeds)}); ± is the sample standard deviation "
        f"(n \u2212 1). Gains are paired by seed. Gain, trusted samples and mislabelled samples are those of {rules[0]}.",
        *_data(cell.rows),
        COST,
        *seconds_notes(cell, [search for row in listed if row.method not in REFERENCES for search in row.searches]),
        *reference_costs(cell),
        *_columns(listed, rules),
        *_boundary_values(listed, rules),
        *_incomplete(cell, listed, rules),
        *_spaces(listed),
        *circumstances(cell.rows),
        *results.problems,
    )


def space_hashes_note(hashes: Sequence[str]) -> str:
    """Names the hash of every search space, by which two stores can be checked for equal spaces."""
    return f"Hashes of the search spaces: {', '.join(hashes)}."


def reference_costs(cell: CellResult) -> list[str]:
    """States what training a reference cost: it was not searched, so that its cost is in no column of search costs."""
    found = []
    for (method, space), searches in cell.methods.items():
        if method in REFERENCES:
            parts = [(f"{seconds(cost.mean)} s", cost) for cost in [per_seed(searches)[0]]]
            parts += [(f"{seconds(cost.times(1e-9).mean)} GFLOP", cost) for cost in [per_seed(searches, "flops")[0]]]
            known = " and ".join(text for text, cost in parts if cost.mean is not None)
            if known:
                found.append(f"{method_label(method, space)} was trained once and not searched: {known} per seed, in no column of costs.")
    return found


def seconds_notes(cell: CellResult, searches: Sequence[SearchResult]) -> list[str]:
    """States under which conditions seconds were measured, and why some are absent."""
    # searches without any seconds say nothing about how they were measured
    exclusive = [exclusive_device(search.rows) for search in searches if search.rows["tuning_seconds"].notna().any()]
    concurrent = (cell.rows["jobs_on_device"] > 1).any()
    # Exclusive cores still share caches with the jobs beside them, which matters only where there were any.
    return [*([OWN_CORES] if any(exclusive) and concurrent else []), *([] if all(exclusive) else [NO_SECONDS])]


def _data(rows: pd.DataFrame) -> list[str]:
    """The sizes of the splits, the noise rate, and how well the baselines fit the given labels."""
    # Sizes and noise rates are those of the training split, which only a trained baseline has measured.
    baselines = rows[(rows["job_type"] == "train") & (rows["status"] == "ok")]
    if baselines.empty:
        return []
    sizes = [
        f"{span(baselines[f'num_{split}'])} {word}" for split, word in (("train", "training"), ("val", "validation"), ("test", "test"))
    ]
    found = [f"{', '.join(sizes[:2])} and {sizes[2]} samples."]
    # The rate of wrong labels is known where the true labels are.
    if baselines["noise_rate_measured"].notna().any():
        nominal = (
            f"Nominal noise rate {span(baselines['noise_rate'] * 100, 1)} %"
            if baselines["noise_rate"].notna().any()
            else "No nominal noise rate"
        )
        found.append(f"{nominal}; {span(baselines['noise_rate_measured'] * 100, 1)} % of the training labels are wrong.")
    if baselines["train_acc"].notna().any():
        mean = summarise(baselines["train_seconds"]).mean
        time = "" if mean is None or not exclusive_device(baselines) else f"; training one took {seconds(mean)} s"
        found.append(f"Accuracy of the baselines on their given training labels: {span(baselines['train_acc'] * 100, 1)} %{time}.")
    # A copy of unknown origin may differ from the published data, and so may its numbers.
    if not baselines["dataset_verified"].all():
        found.append("The files of the data set were not compared with the published checksums.")
    if (rows["val_labels"] == "clean").any():
        found.append("The given labels of the validation set are clean.")
    return found


def _columns(listed: Sequence[MethodRow], rules: Sequence[str]) -> list[str]:
    """Defines the columns that are not self-explanatory."""
    found = []
    # all rows of a search have the same source of information
    sources = {str(line["information"]) for row in listed for search in row.searches for _, line in search.rows.head(1).iterrows()}
    if sources & set(_INFORMATION):
        found.append("Information: " + "; ".join(text for name, text in _INFORMATION.items() if name in sources) + ".")
    chosen = [choice.row for row in listed for choice in row.chosen[rules[0]] if choice.row is not None]
    if any(pd.notna(line["mislabelled_given_acc"]) for line in chosen):
        found.append(
            "Mislabelled: share of the mislabelled training samples predicted as their given label and as their true label; before "
            "correction in the row of Vanilla, after correction in the others. Trusted correct: share of the trusted samples with a "
            "correct label."
        )
    return found


def _boundary_values(listed: Sequence[MethodRow], rules: Sequence[str]) -> list[str]:
    found = []
    # A value may be at the boundary under one rule only.
    for rule in rules:
        methods = []
        for row in listed:
            # One sentence for a value that several seeds selected.
            counts = Counter((value.field, value.side, value.value) for choice in row.chosen[rule] for value in choice.boundary_values)
            values = [
                f"{field} = {plain(value)} ({side}, {count} of {len(row.searches)} seeds)" for (field, side, value), count in counts.items()
            ]
            if values:
                methods.append(f"{method_label(row.method, row.space)} {', '.join(values)}")
        if methods:
            found.append(f"{BOUNDARY_MARK} Value at the boundary of its range, selected by {rule}: {'; '.join(methods)}.")
    return found


def _incomplete(cell: CellResult, listed: Sequence[MethodRow], rules: Sequence[str]) -> list[str]:
    found = []
    missing_seeds = [str(baseline.seed) for baseline in cell.baselines if baseline.row is None]
    if missing_seeds:
        found.append(f"{INCOMPLETE_MARK} Vanilla: no row for seed {', '.join(missing_seeds)}.")
    for row in listed:
        label = method_label(row.method, row.space)
        missing, planned = sum(search.missing for search in row.searches), sum(len(search.planned) for search in row.searches)
        if row.unplanned:
            seeds_text = ", ".join(map(str, row.unplanned))
            found.append(f"{INCOMPLETE_MARK} {label}: not planned for seed {seeds_text}; means are over the other seeds, and not ranked.")
        if missing:
            found.append(f"{INCOMPLETE_MARK} {label}: {missing} of {planned} planned settings have no row; not ranked.")
        for rule in rules:
            # Usually all seeds have the same reason, which is then printed once.
            seeds_by_reason: dict[str, list[str]] = {}
            for search, choice in zip(row.searches, row.chosen[rule], strict=True):
                if choice.problem:
                    seeds_by_reason.setdefault(choice.problem, []).append(str(search.seed))
            found += [
                f"{INCOMPLETE_MARK} {label}, {rule}: no setting selected for seed {', '.join(seeds)}: {reason}."
                for reason, seeds in seeds_by_reason.items()
            ]
    return found


def _spaces(listed: Sequence[MethodRow]) -> list[str]:
    found = []
    for row in listed:
        hashes = [str(name) for search in row.searches for name in search.planned["space_hash"].dropna().unique()]
        if hashes:
            found.append(f"{method_label(row.method, row.space)} {'/'.join(dict.fromkeys(hashes))}")
    return [space_hashes_note(list(dict.fromkeys(found)))] if found else []
