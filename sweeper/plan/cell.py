"""Checks cells: combinations of data set, noise, network and trainer (and pruner), with the searches to run on them.

In a smoke run (`debug=smoke`) everything shrinks here: images, epochs, numbers of samples, settings of each space and budgets of searches.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from torch import nn

from sap_core.api import Corrector, Passes, Pruner, Sizes, Trainer
from sap_core.data.constants import check_constants
from sap_core.data.corruption import check_noise, expected_rate
from sap_core.data.source import DataSet, NoiseKind, can_verify, images_used
from sap_core.data.splits import sizes
from sap_core.errors import UserError, unknown
from sap_core.identity import canonical_json
from sap_core.roles import sample_counts, trainer_fields
from sweeper.config.component import Component, parse_component
from sweeper.config.schema import Config, DebugConfig, SearchConfig, SearchEntry
from sweeper.config.search_space import DEFAULT_SPACE, SearchSpace, evenly_spaced
from sweeper.config.space_hash import space_hash
from sweeper.config.target import resolve_class
from sweeper.search.trial_search import SearchTarget, TrialSearch, check_target, check_trial_searches, refuse_duplicate_searches

PREPROCESS: dict[str, Any] = {"normalise": True, "augment": "none", "padding": 4}
"""Defaults of trainer.preprocess. The optional keys `mean` and `std` replace the data set's constants by a network's own."""

WARMUP = "warmup"
"""Stage of the cells and rows that train the network from which a pruner selects samples."""

_MIN_SAMPLES = 8
"""Lower bound to which a smoke run scales numbers of samples down: with fewer, some methods cannot compute anything."""


@dataclass(frozen=True)
class GridSearch:
    """One method over the grid of one of its spaces, every setting checked."""

    method: str
    space: str
    space_hash: str
    settings: tuple[Component, ...]

    @property
    def name(self) -> str:
        return f"{self.method}@{self.space}"

    @cached_property
    def computation_ids(self) -> list[int]:
        """For each setting the number of its computation. Settings that provably compute the same share a number."""
        # Numbers in place of the keys: rows store integers, and the order of the space decides them.
        numbers: dict[Any, int] = {}
        return [numbers.setdefault(setting.instance.computation(), len(numbers)) for setting in self.settings]

    @cached_property
    def families(self) -> list[list[int]]:
        """The positions of the settings of each family. A family is one job."""
        families: dict[Any, list[int]] = {}
        for position, setting in enumerate(self.settings):
            families.setdefault(setting.instance.family(), []).append(position)
        return list(families.values())


@dataclass(frozen=True)
class Warmup:
    """How the network is trained from which a pruner selects samples."""

    trainer: Component
    preprocess: dict[str, Any]


@dataclass(frozen=True)
class Cell:
    """The components of one baseline per seed, and the searches on it."""

    dataset: Component
    noise: Component
    model: Component
    trainer: Component
    preprocess: dict[str, Any]
    pruner: Component | None
    keep_fraction: float | None
    searches: tuple[GridSearch, ...]
    limit: int | None  # images of a smoke run; None: all
    trial_searches: tuple[TrialSearch, ...] = ()  # random search, TPE, ...
    warmup: Warmup | None = None  # of the warmup network; None: it is trained like the cell's baseline
    stage: str | None = None  # "warmup": this cell trains the warmup network of another cell

    def warmup_cell(self) -> Cell:
        """The cell that trains the warmup network of this cell's pruner."""
        # Without a pruner and searches this is the plain baseline, so a warmup network is shared with the unpruned cell of the same
        # trainer.
        alone = replace(self, pruner=None, keep_fraction=None, searches=(), trial_searches=(), warmup=None)
        if self.warmup is None or (self.warmup.trainer.identity(), self.warmup.preprocess) == (self.trainer.identity(), self.preprocess):
            return alone
        # Trained differently from the baseline on all samples, it is no member of the unpruned cell, so its stage tells them apart.
        return replace(alone, trainer=self.warmup.trainer, preprocess=self.warmup.preprocess, stage=WARMUP)

    @property
    def name(self) -> str:
        rate = self.noise_rate
        noise = self.noise.name + (f"-{rate:g}" if rate is not None else "")
        pruned = f"/{self.pruner.name}-{self.keep_fraction:g}" if self.pruner else ""
        by = f"/warmup-{self.warmup.trainer.name}" if self.pruner and self.warmup and self.warmup.trainer.name != self.trainer.name else ""
        stage = f"/{self.stage}" if self.stage else ""
        # Reports parse this name while a cell has no rows (`analysis.tables.conditions`).
        return f"{self.dataset.name}/{noise}/{self.model.name}/{self.trainer.name}{pruned}{by}{stage}"

    @property
    def noise_rate(self) -> float | None:
        return self.noise.settings.get("rate")

    @property
    def mislabelled_fraction(self) -> float:
        """The expected fraction of wrong given labels."""
        return expected_rate(self.noise.instance, self.dataset.instance.classes)

    @property
    def sizes(self) -> tuple[int, int, int]:
        """Numbers of (training, validation, test) samples, as `sap_core.data.assemble` splits them."""
        data = self.dataset.instance
        return sizes(data.num_train, data.num_test, data.validation, self.limit or images_used(data))


def check_cell(composed: Mapping[str, Any], config: Config) -> Cell:
    """Check every component of a composed cell against the class that it names.

    Raises:
        UserError: the first mistake, with its key and the allowed values.
    """
    plugins, debug = config.plugins, config.debug
    dataset = parse_component(composed["dataset"], "dataset", DataSet, plugins)
    trainer, preprocess = _parse_trainer(composed["trainer"], dataset, config)
    # The choice `none` of the group has no name.
    pruned = composed["pruner"].get("name") is not None
    keep = composed["_cell"].get("keep_fraction")
    if pruned and not (isinstance(keep, float) and 0 < keep < 1):
        raise UserError(
            f"a cell with a pruner needs keep_fraction, the fraction of training samples to keep, between 0 and 1, not {keep!r}; add "
            "keep_fraction: 0.2 to the cell"
        )
    # Noise comes after the data set, because its classes decide which noise is possible (pairs, superclasses, human labels).
    noise = parse_component(composed["noise"], "noise", NoiseKind, plugins)
    check_noise(noise.instance, noise.name, dataset.instance, dataset.name)
    available = images_used(dataset.instance) or dataset.instance.num_train
    # In a smoke run numbers of samples shrink with the images, so that methods use the same fraction of the data.
    limit = min(debug.images, available) if debug.name else None
    scale = limit / available if limit else None
    # Searches are checked per cell, because methods may receive the cell's trainer and smoke runs shrink them by its data.
    searches = tuple(_grid_search(name, composed["method"], trainer, plugins, debug, scale) for name in _method_names(config, grid=True))
    _refuse_duplicate_settings(searches)
    # A method may appear in a grid and in sampled searches; each has its own ids, so they are checked apart.
    trial_searches = tuple(_trial_searches(config, composed["method"], trainer, scale))
    refuse_duplicate_searches(trial_searches)
    settings_by_search = {search.name: search.settings for search in searches}
    _check_needs(dataset, settings_by_search | {search.method: (search.target.base,) for search in trial_searches})
    return Cell(
        dataset,
        noise,
        parse_component(composed["model"], "model", nn.Module, plugins),
        trainer,
        preprocess,
        parse_component(composed["pruner"], "pruner", Pruner, plugins) if pruned else None,
        keep if pruned else None,
        searches,
        limit,
        trial_searches,
        Warmup(*_parse_trainer(composed["_warmup"], dataset, config)) if pruned and "_warmup" in composed else None,
    )


def _parse_trainer(composed: Mapping[str, Any], dataset: Component, config: Config) -> tuple[Component, dict[str, Any]]:
    """(trainer, its complete preprocessing)"""
    given, data = dict(composed), dataset.instance
    # Of data sets of other packages, too, whose inputs would otherwise be divided by zero.
    check_constants(data.mean, data.std, "dataset", data.shape[0])
    # Preprocessing belongs to the data, but YAML states it with the recipe; it is no field of the trainer's class.
    preprocess = _preprocess(given.pop("preprocess", None) or {}, dataset.instance.shape[0])
    if config.debug.name and "epochs" in given:
        # Capped before the component is parsed, so that the id of a smoke run differs from that of the full training.
        given["epochs"] = min(config.debug.epochs, given["epochs"])
    return parse_component(given, "trainer", Trainer, config.plugins), preprocess


def _search_configs(config: Config) -> list[tuple[str, SearchConfig]]:
    """(method, its search) of `methods` and then of each entry of `searches`."""
    entries = [SearchEntry(config.methods, config.search), *config.searches]
    return [(name, entry.search) for entry in entries for name in entry.methods]


def _method_names(config: Config, grid: bool) -> list[str]:
    """The methods of grid searches, or those of all other searches; each once."""
    # Several entries of `searches` may name one method; its grid or target is built once.
    return list(dict.fromkeys(name for name, search_config in _search_configs(config) if search_config.is_grid == grid))


def _trial_searches(config: Config, methods: Mapping[str, Any], trainer: Component, scale: float | None) -> Iterator[TrialSearch]:
    """The searches other than the grid, one per budget and search seed."""
    debug, targets = config.debug, {name: _target(name, methods, trainer, config, scale) for name in _method_names(config, grid=False)}
    for name, search_config in _search_configs(config):
        if not search_config.is_grid:
            if debug.name and search_config.budget is not None:
                # A smoke run tries as many trials as a grid would have settings.
                budget, seeds = min(debug.settings, search_config.budget), search_config.seeds[: debug.seeds]
                search_config = replace(search_config, budget=budget, seeds=seeds)
            yield from check_trial_searches(search_config, targets[name], config.plugins, smoke=debug.name is not None)


def _target(name: str, methods: Mapping[str, Any], trainer: Component, config: Config, scale: float | None) -> SearchTarget:
    method, space, base, where = _parse_method(name, methods)
    cls = resolve_class(base.get("_target_"), where, config.plugins)

    def shrink(settings: dict[str, Any]) -> dict[str, Any]:
        return settings if scale is None else _shrink(settings, sample_counts(cls), scale, config.debug.epochs)

    return check_target(method, space, base, where, config.plugins, dict.fromkeys(trainer_fields(cls), trainer.entry), shrink)


def _check_needs(dataset: Component, searches: Mapping[str, Sequence[Component]]) -> None:
    """Refuse methods that need verified samples where the true labels are unknown and no file verifies any."""
    for name, settings in searches.items():
        for setting in settings:
            for need in sorted(setting.instance.needs()):
                if not can_verify(dataset.instance, need):
                    raise UserError(
                        f"method {name} needs verified samples ({need}), and the true labels of {dataset.name} are unknown; "
                        f"name a file of verified labels with dataset.verified=FILE, or leave the method out"
                    )


def _preprocess(given: Mapping[str, Any], channels: int) -> dict[str, Any]:
    """The trainer's preprocessing with defaults filled in."""
    values = dict(PREPROCESS)
    # mean and std are optional and have no defaults, so they are kept apart from the keys that do.
    constants = {key: value for key, value in given.items() if key in ("mean", "std") and value is not None}
    for key, value in given.items():
        if key not in (*PREPROCESS, "mean", "std"):
            raise unknown("key", key, (*PREPROCESS, "mean", "std"), "trainer.preprocess")
        if key not in PREPROCESS:
            continue
        values[key] = value
    allowed = {"normalise": (True, False), "augment": ("none", "flip", "crop_flip")}
    for key, options in allowed.items():
        if values[key] not in options:
            raise unknown(f"trainer.preprocess.{key}", values[key], options)
    # YAML's true is an int in Python.
    if isinstance(values["padding"], bool) or not isinstance(values["padding"], int) or values["padding"] < 0:
        raise UserError(f"trainer.preprocess.padding={values['padding']!r} must be a whole number of pixels, 0 or more")
    if constants and not (values["normalise"] and len(constants) == 2):
        raise UserError(
            f"trainer.preprocess.mean and std need {channels} numbers each, one per channel, deviations above 0, and normalise=true"
        )
    if constants:
        check_constants(constants["mean"], constants["std"], "trainer.preprocess", channels)
    # As floats, because ids are computed from the repr.
    return values | {key: [float(number) for number in value] for key, value in constants.items()}


def _grid_search(
    name: str, methods: Mapping[str, Any], trainer: Component, plugins: list[str], debug: DebugConfig, scale: float | None
) -> GridSearch:
    method, space, base, where = _parse_method(name, methods)
    cls = resolve_class(base.get("_target_"), where, plugins)
    # Methods that retrain receive the cell's own trainer as a nested component, so that its recipe enters their ids.
    extra = dict.fromkeys(trainer_fields(cls), trainer.entry)
    # A trainer without passes loads a checkpoint; "retraining" with it would return the network to be corrected.
    if extra and trainer.instance.forecast(Sizes(1, 1)) == Passes():
        raise UserError(
            f"method '{method}' trains with the cell's trainer, but trainer={trainer.name} does not train; leave the method out of methods"
        )
    grid = space.grid()
    if debug.name:
        # Both ends of the grid are kept.
        grid = evenly_spaced(grid, debug.settings)
    settings = []
    for chosen in grid:
        merged = {**base, **chosen}
        if scale is not None:
            merged = _shrink(merged, sample_counts(cls), scale, debug.epochs)
        settings.append(parse_component(merged, where, Corrector, plugins, extra))
    different = {canonical_json(setting.settings): setting for setting in settings}
    # In a smoke run two settings may become equal, because epochs are capped; then one of them is dropped.
    if len(different) != len(settings) and not debug.name:
        raise UserError(f"space '{space.name}' of method '{method}' lists the same setting twice (1 and 1.0 are equal); list each once")
    return GridSearch(method, space.name, space_hash(space, base, where, plugins, extra), tuple(different.values()))


def _parse_method(name: str, methods: Mapping[str, Any]) -> tuple[str, SearchSpace, dict[str, Any], str]:
    """(method, space, fixed settings, configuration key) of `method@space`; without `@space`, the first space."""
    method, _, space_name = name.partition("@")
    if method not in methods:
        raise unknown("method", method, methods, "methods")
    spaces, base = check_method_file(methods[method], method)
    space_name = space_name or next(iter(spaces))
    # The one setting that the method's file and the overrides of its fields give, unless the file defines a space of this name.
    spaces = {**spaces, DEFAULT_SPACE: spaces.get(DEFAULT_SPACE, {})}
    if space_name not in spaces:
        raise unknown("space", space_name, spaces, f"methods ({method})")
    return method, SearchSpace.parse(space_name, spaces[space_name] or {}), base, f"method.{method}.corrector"


def _refuse_duplicate_settings(searches: Sequence[GridSearch]) -> None:
    """Refuse two methods of one class that share a setting and the name of a space: both rows would have one id."""
    owners: dict[str, str] = {}
    # The id of a row contains class, settings and space, not the name of the method.
    for search in searches:
        for setting in search.settings:
            owner = owners.setdefault(canonical_json([search.space, setting.identity()]), search.method)
            if owner != search.method:
                raise UserError(
                    f"methods '{owner}' and '{search.method}' are the same computation in spaces of the same name ('{search.space}'), "
                    f"so their rows could not be told apart; name only one of them, or rename the space of one"
                )


def check_method_file(given: Any, method: str) -> tuple[Mapping[str, Any], dict[str, Any]]:
    """(spaces, corrector) of a method's file.

    Raises:
        UserError: an unknown key, no corrector, or spaces that are no mapping.
    """
    keys = ("name", "corrector", "spaces")
    if not isinstance(given, Mapping) or not isinstance(given.get("corrector"), Mapping):
        raise UserError(f"method.{method} has no corrector; give it corrector: {{_target_: package.module.Class, ...}}")
    for key in given:
        if key not in keys:
            raise unknown("key", key, keys, f"method.{method}")
    # A method without hyperparameters is a space of one setting.
    spaces = given.get("spaces") or {"only": {}}
    if not isinstance(spaces, Mapping) or not all(isinstance(space, Mapping | None) for space in spaces.values()):
        raise UserError(f"method.{method}.spaces must map names to spaces, as in {{mine: {{alpha: {{grid: [1.0, 2.0]}}}}}}, not {spaces!r}")
    return spaces, dict(given["corrector"])


def _shrink(settings: dict[str, Any], counted: Iterable[str], scale: float, epochs: int) -> dict[str, Any]:
    """A setting for a smoke run: numbers of samples (the fields `counted`) scaled down, epochs capped."""
    counts = {key: max(_MIN_SAMPLES, round(settings[key] * scale)) for key in counted if isinstance(settings.get(key), int)}
    capped = {"epochs": min(epochs, settings["epochs"])} if isinstance(settings.get("epochs"), int) else {}
    return {**settings, **counts, **capped}
