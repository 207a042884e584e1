"""Checks the published tables for consistency: recomputes printed averages and improvements, and compares numbers printed twice.

Printed numbers are rounded to two decimals. An average or improvement recomputed from rounded numbers can differ from the one that the
authors computed from unrounded numbers by at most 0.01 (0.005 in the inputs and 0.005 in the result). A larger difference is an error.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from analysis.reference.published import Derived, Quote, derived, quotes
from analysis.store.labels import counted, dataset_label, mean_std, method_label, network_label, trainer_label
from sap_core.records import VANILLA

ROUNDING = 0.01
_EXACT = 1e-9


@dataclass(frozen=True)
class Inconsistency:
    """One inconsistency; `is_error` if rounding cannot explain it."""

    is_error: bool
    sentence: str


def findings() -> tuple[Inconsistency, ...]:
    """All inconsistencies, errors first."""
    found = [*_derived(), *_tables_1_and_2(), *_ablations()]
    # sorted is stable, so each kind keeps the order of the tables.
    return tuple(sorted(found, key=lambda finding: not finding.is_error))


def report() -> str:
    """The inconsistencies as text, with the number of values that were checked."""
    found = findings()
    errors = [finding.sentence for finding in found if finding.is_error]
    rounding = [finding.sentence for finding in found if not finding.is_error]
    lines = [f"{counted(len(errors), 'error')} in the published tables:", *(f"- {sentence}" for sentence in errors)]
    if rounding:
        lines += ["", f"{len(rounding)} more differences that rounding (0.01) can explain:", *(f"- {sentence}" for sentence in rounding)]
    compared = len(derived())
    lines += [
        "",
        f"Checked: {compared} printed averages and improvements, cells printed in two tables, and the data of the figures.",
        *identical_to_unmodified(),
    ]
    return "\n".join(lines)


def identical_to_unmodified() -> list[str]:
    """One sentence per method on the cells of table 1 with exactly the numbers of the unmodified model.

    In these cells the search kept the unmodified model, or the correction changed nothing in the printed digits.
    """
    vanilla = {
        quote.key(("dataset", "network", "noise", "noise_rate")): quote for quote in quotes("table1") if quote.about["method"] == VANILLA
    }
    methods = dict.fromkeys(str(quote.about["method"]) for quote in quotes("table1"))
    sentences = []
    for method in methods:
        own = [quote for quote in quotes("table1") if quote.about["method"] == method and method != VANILLA]
        # Equal in mean and in standard deviation: equality by chance in both is very unlikely.
        same = [quote for quote in own if (before := vanilla[_cell(quote)]).mean == quote.mean and before.std == quote.std]
        if same:
            sentences.append(
                f"{method_label(method)} has exactly the unmodified model's numbers in {len(same)} of {len(own)} cells of table 1: "
                f"{_join(_conditions(quote.about) for quote in same)}."
            )
    return sentences


def _derived() -> list[Inconsistency]:
    found = []
    for line in derived():
        computed = _computed(line)
        off = abs(computed - line.printed)
        # Within the rounding of the printed result alone.
        if off <= ROUNDING / 2 + _EXACT:
            continue
        rounded = f"{computed:.2f}"
        quantity = {"average": "average", "gain": "improvement", "average_gain": "average improvement"}[line.quantity]
        of = "" if line.quantity != "average" else f" of {method_label(str(line.about['method']))}"
        found.append(
            Inconsistency(
                off > ROUNDING + _EXACT,
                f"{_table(line.table)}{_where(line.about)}: the printed {quantity}{of} is {line.printed:.2f}, the rows give {rounded}.",
            )
        )
    return found


def _computed(line: Derived) -> float:
    fields = ("dataset", "network", "trainer")
    # Noise types and rates are what an average is over, so they are not among the conditions.
    asked = {field: line.about[field] for field in fields if field in line.about}

    def means(method: str) -> list[float]:
        return [quote.mean for quote in quotes(line.table) if quote.is_about(asked) and quote.about["method"] == method]

    # Recomputed from the printed numbers, over the rows that the printed average covers.
    own = fmean(means(str(line.about["method"])))
    return own if line.quantity == "average" else own - fmean(means(VANILLA))


def _tables_1_and_2() -> list[Inconsistency]:
    """Compares the rows of trainer sgd in table 2 with the same cells of table 1."""
    fields = ("dataset", "network", "noise", "noise_rate", "trainer", "method")
    first = {quote.key(fields): quote for quote in quotes("table1")}
    found = []
    for quote in quotes("table2"):
        other = first.get(quote.key(fields))
        # Copied numbers have no rounding, so any difference is an error.
        if other is not None and (other.mean, other.std) != (quote.mean, quote.std):
            who = method_label(str(quote.about["method"]))
            found.append(_differ(f"{who}, {_conditions(quote.about)}", "table 1", other, "table 2", quote))
    return found


def _ablations() -> list[Inconsistency]:
    """Compares cells printed in two figures: no skipping and alpha 30,000; 1,000 samples at the best alpha; the earlier version's table."""
    cell = ("dataset", "network")
    alphas = _by(quotes("ablation_alpha"), (*cell, "alpha"))
    # The figure of sizes prints the best alpha, which is looked up in the figure of alphas.
    best: dict[tuple[object, ...], Quote] = {}
    for quote in quotes("ablation_alpha"):
        if quote.key(cell) not in best or quote.mean > best[quote.key(cell)].mean:
            best[quote.key(cell)] = quote
    plain = {quote.key(cell): quote for quote in quotes("ablation_trusted_strategy") if quote.about["strategy"] == "curvature"}
    sizes = {quote.key(cell): quote for quote in quotes("ablation_trusted_size") if quote.about["num_trusted"] == 1000}
    corrected = [quote for quote in quotes("earlier_version") if quote.about["method"] != VANILLA and quote.about["trainer"] == "sgd"]
    earlier = _by(corrected, cell)
    found = []
    for key, quote in plain.items():
        fixed = alphas[(*key, 30000.0)]
        if not _same(quote, fixed):
            found.append(
                _differ(_conditions(quote.about), "the figure of alpha at 30,000", fixed, "the figure of strategies at 0 %", quote)
            )
    for key, quote in sizes.items():
        where = "the figure of sizes (1,000 samples, best alpha)"
        if not _same(quote, best[key]):
            alpha = f"the best of the figure of alpha ({best[key].about['alpha']:,.0f})"
            found.append(_differ(_conditions(quote.about), alpha, best[key], where, quote))
        # The data of the figure have more digits than the table of the earlier version prints.
        if not _same(quote, earlier[key], 0.5 * ROUNDING):
            off = abs(round(quote.mean, 2) - earlier[key].mean) > ROUNDING + _EXACT
            found.append(_differ(_conditions(quote.about), "the earlier version's table", earlier[key], where, quote, off))
    return found


def _by(some: Iterable[Quote], fields: Sequence[str]) -> dict[tuple[object, ...], Quote]:
    return {quote.key(fields): quote for quote in some}


def _same(one: Quote, other: Quote, within: float = _EXACT) -> bool:
    return abs(one.mean - other.mean) <= within + _EXACT


def _differ(quantity: str, here: str, one: Quote, there: str, other: Quote, is_error: bool = True) -> Inconsistency:
    return Inconsistency(is_error, f"{quantity}: {here} has {_shown(one)}, {there} {_shown(other)}.")


def _shown(quote: Quote) -> str:
    return mean_std(quote.mean, quote.std, 2)


def _cell(quote: Quote) -> tuple[str | float | None, ...]:
    return quote.key(("dataset", "network", "noise", "noise_rate"))


def _table(name: str) -> str:
    return {"earlier_version": "The earlier version's table"}.get(name, f"Table {name.removeprefix('table')}")


def _where(about: Mapping[str, str | float]) -> str:
    parts = [
        show(str(about[field]))
        for field, show in (("dataset", dataset_label), ("network", network_label), ("trainer", trainer_label))
        if field in about
    ]
    return f", {', '.join(parts)}" if parts else ""


def _conditions(about: Mapping[str, str | float]) -> str:
    """`CIFAR-10, ResNet18, symmetric 25 %`."""
    noise = f"{about['noise']} {about['noise_rate'] * 100:g} %" if "noise_rate" in about else str(about["noise"])
    return f"{dataset_label(str(about['dataset']))}, {network_label(str(about['network']))}, {noise.replace('_', ' ')}"


def _join(parts: Iterable[str]) -> str:
    return "; ".join(parts)
