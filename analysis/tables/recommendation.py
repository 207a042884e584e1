"""Table `recommendation`: whether to use the corrected model or keep the unmodified one, by a paired test on the validation samples."""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd

from analysis.store.labels import MISSING, counted, method_label, p_value
from analysis.store.load import Results
from analysis.store.results import CellResult, SearchResult, cells
from analysis.store.selection_rule import Choice
from analysis.tables.class_numbers import with_class_note
from analysis.tables.method_rows import setting_text
from analysis.tables.notes import cell_title
from analysis.tables.render import Column, FormattedCell, Table
from analysis.tuning.memorisation import Memorisation, images_for, memorisation
from sap_core.mcnemar import LEVEL, McNemarTest

RULE = "val_noisy"

_COLUMNS = (
    Column("method", "Method", numeric=False),
    Column("seed", "Seed"),
    Column("chosen", "Selected setting", numeric=False),
    Column("settings_tried", "Settings tried"),
    Column("val_samples", "samples", "Validation"),
    Column("val_newly_right", "newly right", "Validation"),
    Column("val_newly_wrong", "newly wrong", "Validation"),
    Column("p_value", "p"),
    Column("recommendation", "Recommendation", numeric=False),
)


_NOTES = (
    "Newly right: validation samples whose given label the corrected model predicts and the unmodified model does not. Newly wrong: the "
    "reverse.",
    "p: exact one-sided sign test (McNemar) on these samples, Bonferroni-corrected for all distinct settings tried on this baseline; the "
    f"corrected model is recommended if p is at most {LEVEL:g}.",
    "The number of samples that would decide extrapolates the observed rates, and is imprecise if few samples differ.",
)


def recommendation(results: Results) -> tuple[Table, ...]:
    """Computes one table per cell whose rows count newly right and newly wrong validation samples, or whose settings all failed.

    Regressions count none and have no table.
    """
    found = (cell for cell in cells(results) if cell.rows["val_newly_right"].notna().any() or _all_failed(cell))
    # A corrected network is loaded into the user's own code, where the order of its outputs must be known.
    return tuple(with_class_note(_table(cell), results, cell) for cell in found)


def _all_failed(cell: CellResult) -> bool:
    """Whether a classification's searches have rows and all of them failed, so that none counts changed predictions."""
    rows = [search.rows for found in cell.methods.values() for search in found if len(search.rows)]
    return cell.measure == "acc" and bool(rows) and all((part["status"] != "ok").all() for part in rows)


def recommendation_for_own_data(results: Results) -> tuple[Table, ...]:
    """The tables of cells without synthetic noise: the labels are the user's own, so the recommendation is of practical use."""
    # With synthetic noise a user would know the right labels anyway.
    own = {cell.name for cell in cells(results) if not (cell.rows["noise_rate"] > 0).any()}
    return tuple(table for table in recommendation(results) if table.cell in own)


def _table(cell: CellResult) -> Table:
    searches = [search for found in cell.methods.values() for search in found]
    # Counted over all searches on the baseline, because a user picks among all of them.
    num_settings = {seed: _num_settings([search for search in searches if search.seed == seed]) for seed in cell.seeds}
    return Table(
        name="recommendation",
        cell=cell.name,
        caption=f"Corrected or unmodified model on {cell_title(cell)}: paired test of the setting selected by {RULE}.",
        columns=_COLUMNS,
        rows=tuple(_row(search, num_settings[search.seed]) for search in searches),
        notes=(*_NOTES, *_validation_notes(searches, num_settings)),
    )


def _num_settings(searches: list[SearchResult]) -> int:
    """The number of distinct settings on one baseline over all its searches, for the Bonferroni correction."""
    return sum(int(search.planned["computation_id"].nunique()) for search in searches)


def _row(search: SearchResult, num_settings: int) -> tuple[FormattedCell, ...]:
    choice = search.choose(RULE)
    row = choice.row
    seen = _seen(search.vanilla)
    if seen and seen.memorised and row is not None:
        row, choice = None, Choice(None, problem=f"the validation images look memorised; add {_unseen(num_settings)}")
    # Also where there is no sign of it, because too few images may hide it.
    suffix = "; judged on images that the unmodified model was trained on" if _drawn(search.vanilla) else ""
    label = (FormattedCell(method_label(search.method, search.space)), FormattedCell(str(search.seed), search.seed))
    # Without a change there is nothing to test.
    if row is None or choice.kept or pd.isna(row["val_newly_right"]):
        reason = f"no recommendation: {choice.problem or 'the changed predictions were not recorded'}"
        if choice.kept:
            reason = f"keep the unmodified model: no setting is better{suffix}"
        return (
            *label,
            FormattedCell(MISSING),
            FormattedCell(str(num_settings), num_settings),
            *(FormattedCell(MISSING) for _ in range(4)),
            FormattedCell(reason),
        )
    # The counts are stored by the platform, which has both predictions of each validation sample.
    test = McNemarTest(int(row["val_newly_wrong"]), int(row["val_newly_right"]), int(row["num_val"]), num_settings)
    return (
        *label,
        FormattedCell(_setting(search, row)),
        FormattedCell(str(num_settings), num_settings),
        *(FormattedCell(str(value), value) for value in (test.samples, test.newly_right, test.newly_wrong)),
        FormattedCell(p_value(test.p_value), test.p_value),
        FormattedCell(_advice(test) + suffix),
    )


def _drawn(vanilla: pd.Series | None) -> bool:
    """Whether the validation images were drawn from the training images of a network that was trained elsewhere, on all of them."""
    # A network that was trained in the sweep has cost time, and has not seen its validation images.
    return vanilla is not None and vanilla.get("val_source") == "drawn" and pd.isna(vanilla.get("train_seconds"))


def _seen(vanilla: pd.Series | None) -> Memorisation | None:
    """The test of memorisation, where the network may have seen its validation images."""
    return memorisation(vanilla) if _drawn(vanilla) else None


def _unseen(num_settings: int) -> str:
    return f"about {images_for(num_settings)} images that it was not trained on as validation images"


def _validation_notes(searches: list[SearchResult], num_settings: dict[int, int]) -> Iterator[str]:
    """What the scores of the unmodified model say about the validation images, for networks that were trained elsewhere."""
    for seed in num_settings:
        vanilla = next((search.vanilla for search in searches if search.seed == seed), None)
        if vanilla is None or pd.notna(vanilla.get("train_seconds")):
            continue
        found = memorisation(vanilla)
        if found is not None:
            yield from _validation_note(found, seed, _drawn(vanilla), num_settings[seed])


def _validation_note(found: Memorisation, seed: int, drawn: bool, num_settings: int) -> Iterator[str]:
    train = f"{found.train.accuracy:.3f} on {found.train.count} training, " if found.train else ""
    scores = (
        f"Accuracy of the unmodified model, seed {seed}: {train}{found.val.accuracy:.3f} on {found.val.count} validation and "
        f"{found.test.accuracy:.3f} on {found.test.count} test images"
    )
    p = p_value(found.p_value)
    test = f"exact test that validation is not better than test: p {p if p.startswith('<') else f'= {p}'}"
    if drawn and found.memorised:
        yield (
            f"{scores}. It was trained on the validation images, which were drawn from the training images, and classifies them better "
            f"than test images ({test}): it has memorised them with their wrong labels, and a correction that removes wrong labels "
            f"scores lower on them, so they cannot tell which model is better. Add {_unseen(num_settings)} (val/CLASS/ in a folder; their "
            "labels may be as wrong as those of training) and run the same command; this number suffices to detect a gain of five points."
        )
    elif drawn:
        yield (
            f"{scores}. It was trained on the validation images, which were drawn from the training images. It does not classify them "
            f"significantly better than test images ({test}), so there is no sign that it has memorised them; images that it was not "
            "trained on (val/CLASS/ in a folder) would be certain."
        )
    elif found.memorised and found.as_training:
        yield (
            f"{scores}. It classifies the validation images as well as training images and better than test images ({test}): either it "
            "was trained on them, and then they cannot tell which model is better, or the test images are more difficult."
        )
    else:
        # A wrong preprocessing shows nowhere else.
        yield f"{scores}. If you know other numbers, check the size of the images, mean and std, and the order of the classes."


def _advice(test: McNemarTest) -> str:
    if test.significant:
        return "use the corrected model"
    # A negative answer states what would change it.
    needed = test.samples_needed
    more = f"about {counted(needed, 'validation sample')} would decide" if needed is not None else "more samples are unlikely to decide"
    return f"keep the unmodified model; {more}"


def _setting(search: SearchResult, row: pd.Series) -> str:
    (chosen,) = [setting for setting, run_id in zip(search.settings, search.planned["run_id"], strict=True) if run_id == row["run_id"]]
    return setting_text(chosen, search.settings)
