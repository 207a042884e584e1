"""Scales settings of trainers and search spaces down to the 80 images of `sweeper.contracts.toys`, so that checks take seconds."""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import Any, TypeGuard, TypeVar

from sap_core.api import Corrector
from sap_core.roles import Counted
from sweeper.config.search_space import LIST_TYPES, Domain, SearchSpace

EPOCHS = 4
SETTINGS_PER_SPACE = 5  # evenly from the first to the last
FEWEST, FORGET = 24, 10  # verified and trusted samples
TRAINING_BATCH, BATCH = 16, 8
MAX_VALUES = {"k": 3, "steps": 14, "msteps": 6, "folds": 2, "epochs": 6}
"""Limits of other fields of correctors: the networks have three layers, and checks have to be fast."""

T = TypeVar("T")


def small_recipe(fields: Mapping[str, Any], kept: Iterable[str] = ()) -> dict[str, Any]:
    """A trainer's fields with few epochs (other epoch counts scaled proportionally) and small batches; fields in `kept` are unchanged."""
    epochs = fields.get("epochs")
    # Other epoch counts (warm-up, decay) keep their proportion to `epochs`.
    share = EPOCHS / epochs if _is_count(epochs) and epochs > EPOCHS and "epochs" not in kept else 1.0
    found = dict(fields)
    for name, value in fields.items():
        if name in kept or not _is_count(value):
            continue
        if "epoch" in name and value > 0:
            found[name] = max(1, round(value * share))
        elif name.endswith(("batch_size", "_batch")):
            found[name] = min(value, TRAINING_BATCH)
    return found


def small_settings(
    fixed: Mapping[str, Any], space: SearchSpace, counted: Mapping[str, Counted] | None = None, scale: bool = True
) -> list[dict[str, Any]]:
    """All complete settings of a space, with sample counts and batch sizes scaled down unless `scale` is false.

    `counted` names the fields that count samples (see `sap_core.roles.sample_counts`).
    """
    base, counted = dict(fixed), counted or {}
    if scale:
        # null means all retain samples; a number in its place can be scaled down like the others.
        base |= {name: FEWEST for name, of in counted.items() if of == "retain" and base.get(name, 0) is None}
    fields = [domain.field for domain in space.domains]
    # The complete product, from which a few settings are taken afterwards, so that they are spread over all fields.
    rows = [base | dict(zip(fields, values, strict=True)) for values in itertools.product(*map(_choices, space.domains))]
    return [{field: _scaled(field, value, counted.get(field)) if scale else value for field, value in row.items()} for row in rows]


def families(settings: Iterable[Corrector]) -> list[tuple[Corrector, ...]]:
    """The settings grouped by `family()`, as the planner groups them into jobs."""
    groups: dict[Hashable, list[Corrector]] = defaultdict(list)
    for setting in settings:
        groups[setting.family()].append(setting)
    return [tuple(group) for group in groups.values()]


def families_to_try(settings: Sequence[Corrector]) -> tuple[tuple[Corrector, ...], ...]:
    """Families of settings spread evenly over the space, then several settings of the middle one's family.

    Settings that are equal count once. Settings that cannot be grouped, which the first check reports, are families of one.
    """
    try:
        # Scaling makes some settings equal.
        settings = list(dict.fromkeys(settings))
        grouped = families(settings)
    # An unhashable setting or key (a forgotten frozen=True), or an error of family() itself.
    except Exception:
        return tuple((setting,) for setting in spread(settings, SETTINGS_PER_SPACE))
    # The middle of the space, because the first and last settings are often extreme values that diverge.
    middle = settings[len(settings) // 2]
    mates = spread(next(family for family in grouped if middle in family), SETTINGS_PER_SPACE)
    return (*families(spread(settings, SETTINGS_PER_SPACE)), tuple(mates))


def spread(items: Sequence[T], count: int) -> list[T]:
    """At most `count` of `items`, evenly spaced from the first to the last."""
    # A set, because several steps may round to one index.
    indices = sorted({round(step * (len(items) - 1) / max(1, count - 1)) for step in range(count)})
    return [items[index] for index in indices]


def _choices(domain: Domain) -> Sequence[Any]:
    """Values of one domain: all of a list, the ends of a range."""
    # Of a range the two ends; for integers a value within it does as well.
    low, high = domain.values[0], domain.values[-1]
    return domain.values if domain.type in LIST_TYPES else [low, high - 1 if domain.type == "randint" else high]


def _scaled(field: str, value: Any, counted: Counted | None) -> Any:
    """The value, limited if the field counts samples or is a batch size."""
    if _is_count(value) and counted:
        return min(value, FORGET if counted == "forget" else FEWEST)
    if _is_count(value) and field in MAX_VALUES:
        return min(value, MAX_VALUES[field])
    # Smaller than the training batch, because verified samples are few and a method should take several steps.
    return min(value, BATCH) if _is_count(value) and field.endswith(("batch_size", "_batch")) else value


def _is_count(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool)
