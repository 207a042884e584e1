"""Fills in the options that a configuration leaves as `auto`, from the user's images and checkpoint, before anything is planned.

Ids and plans contain the numbers, so a run with `auto` and one with the same numbers typed have the same ids. Values that are typed and
that the files contradict are refused here with both numbers. Only data sets that implement `ReadsOptions` are read.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from sap_core.data.file_facts import FileFacts, Reading, some
from sap_core.data.names import located
from sap_core.data.samples import Preprocess
from sap_core.data.source import DataSet, ReadsOptions
from sap_core.data.splits import sizes
from sap_core.errors import UserError
from sap_core.identity import canonical_json
from sweeper.config.component import parse_component, with_texts
from sweeper.config.compose import Composed
from sweeper.config.schema import CELL_GROUPS
from sweeper.config.target import resolve_class
from sweeper.plan.given_network import GivenNetwork, read_network
from sweeper.plan.input_format import choose_channels, choose_size
from sweeper.plan.options_table import FILES, TYPE, OptionLine, OptionsTable, as_override, as_typed
from sweeper.plan.trusted_size import batch_size, num_trusted

AUTO = "auto"
"""Value of an option that is read from the files."""

IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Mean and standard deviation per channel with which torchvision's published weights were trained."""

_VAL = {"folder": ", in val/CLASS/", "tensors": ", with split 2", "table": ", in rows of split val"}
"""Data set -> where its own validation images are expected."""

_STATISTICS = 500
"""Training images from which the mean and standard deviation are estimated."""


def fill_in(composed: Composed, root: Path) -> tuple[Composed, list[OptionsTable], list[str]]:
    """Return the configuration without `auto`, one table of options per data set and network, and warnings.

    Args:
        composed: the composed configuration.
        root: data folder.

    Raises:
        UserError: files are missing, or contradict each other or the configuration.
    """
    done: dict[str, tuple[dict[str, Any], OptionsTable | None, list[str]]] = {}
    cells = []
    for cell in composed.cells:
        # Cells differ in noise, seeds and methods; what is read depends on these three groups and the methods' fixed options.
        key = canonical_json([cell[group] for group in ("dataset", "model", "trainer", "method")])
        if key not in done:
            done[key] = _Reader(composed, cell, root).read()
        changed = done[key][0]
        cells.append({**cell, **changed})
    tables = {str(table): table for _, table, _ in done.values() if table is not None}
    warnings = dict.fromkeys(warning for *_, found in done.values() for warning in found)
    # As the configuration is stored: one file for all cells, which holds the methods once.
    raw = dict(composed.raw)
    raw["cells"] = [{**stored, **{group: cell[group] for group in CELL_GROUPS}} for stored, cell in zip(raw["cells"], cells, strict=True)]
    if len({canonical_json(cell["method"]) for cell in cells}) == 1:
        raw["method"] = cells[0]["method"]
    return replace(composed, cells=tuple(cells), raw=raw), list(tables.values()), list(warnings)


class _Reader:
    """Reads the options of one cell."""

    def __init__(self, composed: Composed, cell: Mapping[str, Any], root: Path) -> None:
        self.composed, self.cell, self.root = composed, cell, root
        self.plugins = composed.config.plugins
        self.dataset: dict[str, Any] = dict(cell["dataset"])
        self.lines: list[OptionLine] = []

    def read(self) -> tuple[dict[str, Any], OptionsTable | None, list[str]]:
        cls: Any = resolve_class(self.dataset.get("_target_"), "dataset", self.plugins, DataSet)
        self.dataset = with_texts(cls, self.dataset)
        options = getattr(cls, "__dataclass_fields__", {})
        # An experiment may ask for more than its data set has: tensors have a shape and no number of channels.
        for key in [key for key, value in self.dataset.items() if value == AUTO and key not in options]:
            del self.dataset[key]
        if not isinstance(cls, ReadsOptions):
            return {"dataset": self.dataset}, None, []
        facts = cls.read_options(self.dataset, self.root)
        network = read_network(self.cell, _sides(facts), self.plugins)
        self._classes(facts, network)
        for key, reading in facts.options.items():
            if key != "num_classes":
                self._count(key, reading)
        self._format(facts, network)
        dataset = parse_component(self.dataset, "dataset", DataSet, self.plugins)
        if not facts.validation_part:
            _, val, _ = _sizes(dataset.instance)
            unseen = _VAL.get(type(dataset.instance).name, "")
            drawn = (
                f"{self._origin('dataset.validation')}: {val} of the training images; better: images that the network has not seen{unseen}"
            )
            self._line("dataset.validation", dataset.instance.validation, TYPE, drawn)
        methods = self._methods(dataset.instance)
        self._checkpoint(network)
        warnings = self._preprocessing(dataset.instance, facts.value_range) if network.checkpoint else []
        table = OptionsTable(f"options read from {self._place}:", tuple(self.lines))
        return {"dataset": self.dataset, "method": methods}, table, warnings

    def _line(self, key: str, value: Any, change: str, source: str) -> None:
        self.lines.append(OptionLine(key, value, change, source))

    def _origin(self, key: str) -> str:
        return "command line" if key in self.composed.given else "configuration"

    def _count(self, key: str, reading: Reading) -> None:
        """Fill in a number that the files determine, or compare it."""
        given, files = self.dataset.get(key, AUTO), "the file" if "file" in self.dataset else "the files"
        # A share says how many images are drawn where there are no validation images; the experiment's gives way to them, a typed one not.
        gives_way = key == "validation" and isinstance(given, float) and f"dataset.{key}" not in self.composed.given
        if given != AUTO and not gives_way and as_typed(given) != as_typed(reading.value):
            ignore = (
                ", or dataset.val_folder=none to draw validation images from the training images" if "val_folder" in self.dataset else ""
            )
            raise UserError(
                f"dataset.{key}={as_typed(given)}, but there are {as_typed(reading.value)}: {reading.source} of '{self._place}'; leave "
                f"dataset.{key} out to take the number of {files}" + (ignore if key == "validation" else "")
            )
        self.dataset[key] = reading.value
        self._line(f"dataset.{key}", reading.value, FILES, reading.source)

    @property
    def _place(self) -> Path:
        return located(self.root, str(self.dataset.get("folder") or self.dataset.get("file") or self.dataset.get("table")))

    def _classes(self, facts: FileFacts, network: GivenNetwork) -> None:
        reading, given, outputs = facts.options["num_classes"], self.dataset.get("num_classes", AUTO), network.num_outputs
        found = int(reading.value)
        if given not in (AUTO, found):
            raise UserError(
                f"dataset.num_classes={given}, but there are {found}: {reading.source} of '{self._place}'; leave dataset.num_classes out, "
                f"or fix the data set"
            )
        if outputs not in (None, found):
            raise UserError(_mismatch(network, found, reading.source, self._place, facts))
        head = "" if outputs is None else f"; the checkpoint's head has {outputs} outputs"
        self.dataset["num_classes"] = found
        self._line("dataset.num_classes", found, FILES, reading.source + head)

    def _format(self, facts: FileFacts, network: GivenNetwork) -> None:
        """Channels and size of the inputs."""
        if facts.headers is None:
            shape, wanted = self.dataset["shape"], network.format.channels
            if wanted is not None and shape[0] != wanted:
                raise UserError(_wrong_channels(self._place, shape, wanted))
            return
        given = self.dataset.get("channels", AUTO)
        channels = choose_channels(facts.headers, network.format, None if given == AUTO else given)
        self.dataset["channels"] = channels.value
        self._line("dataset.channels", channels.value, TYPE, channels.source)
        size = choose_size(facts.headers, network.format, channels.value)
        given = self.dataset.get("size", AUTO)
        if given != AUTO:
            size = Reading(given, f"{self._origin('dataset.size')}; auto would be {size.value} ({size.source})")
        self.dataset["size"] = size.value
        self._line("dataset.size", size.value, TYPE, size.source)

    def _methods(self, dataset: DataSet) -> dict[str, Any]:
        """The methods with the numbers of SAP."""
        train, _, _ = _sizes(dataset)
        methods = dict(self.cell["method"])
        used = {name.partition("@")[0] for name in self.composed.config.methods}
        used |= {name.partition("@")[0] for entry in self.composed.config.searches for name in entry.methods}
        for method in used & set(methods):
            corrector = dict((methods[method] or {}).get("corrector") or {})
            if AUTO not in (corrector.get("num_trusted"), corrector.get("batch_size")):
                continue
            key = f"method.{method}.corrector"
            if corrector.get("num_trusted") == AUTO:
                corrector["num_trusted"] = num_trusted(train, dataset.classes.num)
                share = f"{corrector['num_trusted'] / train:.0%} of {train} training images; rule in docs/own_model.md"
                self._line(f"{key}.num_trusted", corrector["num_trusted"], TYPE, share)
            if corrector.get("batch_size") == AUTO:
                corrector["batch_size"] = batch_size(int(corrector["num_trusted"]))
                self._line(f"{key}.batch_size", corrector["batch_size"], TYPE, "divides num_trusted")
            methods[method] = {**methods[method], "corrector": corrector}
        return methods

    def _checkpoint(self, network: GivenNetwork) -> None:
        preprocess = self.cell["trainer"].get("preprocess") or {}
        if network.checkpoint is None:
            return
        for key in ("mean", "std"):
            value = preprocess.get(key) or list(self.dataset.get(key) or []) or None
            known = self._origin(f"trainer.preprocess.{key}") if preprocess.get(key) else "the data set's option" if value else "not given"
            self._line(f"trainer.preprocess.{key}", value, TYPE, known)

    def _preprocessing(self, dataset: DataSet, value_range: tuple[float, float] | None) -> list[str]:
        """A warning if no constants are given: the pixels are not normalised, and most networks were trained with some.

        Raises:
            UserError: constants are given for floats that are not in [0, 1], or are those of pixels of 0 to 255.
        """
        preprocess = self.cell["trainer"].get("preprocess") or {}
        # A little tolerance for interpolated and compressed images.
        if value_range is not None and not (value_range[0] >= -0.01 and value_range[1] <= 1.01):
            if preprocess.get("mean") or preprocess.get("std"):
                low, high = value_range
                raise UserError(
                    f"the images of '{self._place}' are floats from {low:g} to {high:g}, but trainer.preprocess.mean and "
                    f"trainer.preprocess.std are of pixels in 0 to 1; if the images are normalised already, set "
                    f"trainer.preprocess.normalise=false instead, and if their pixels are 0 to 255, save images.round().astype('uint8')"
                )
            # Already normalised, or of 0 to 255, which the inspection says.
            return []
        if len(dataset.shape) == 3:
            _check_scale(preprocess.get("mean") or dataset.mean or (), preprocess.get("std") or dataset.std or ())
        if preprocess.get("mean") or preprocess.get("std") or preprocess.get("normalise") is False or dataset.mean:
            return []
        choices: dict[str, tuple[Sequence[float], Sequence[float]]] = {}
        if dataset.shape[0] == 3:
            choices["ImageNet's"] = IMAGENET
        # Files that cannot be read are counted and named by the inspection that follows.
        with suppress(UserError):
            choices["those of your training images"] = _statistics(dataset, self.root)
        used = "divided by 255" if value_range is None else "used as they are"
        lines = [
            f"    {as_override('trainer.preprocess.mean', mean)} {as_override('trainer.preprocess.std', std)}   ({name})"
            for name, (mean, std) in choices.items()
        ]
        # Several lines, because the overrides are there to be copied.
        return [
            "\n".join(
                [
                    f"no preprocessing is given: pixels are {used} and not normalised. If the network was trained with normalised",
                    "images, add the mean and the standard deviation of its training, or else its accuracy is wrong. Copy one of these:",
                    *lines,
                    "    trainer.preprocess.normalise=false   (none: as now, without this warning)",
                ]
            )
        ]


def _sizes(dataset: DataSet) -> tuple[int, int, int]:
    return sizes(dataset.num_train, dataset.num_test, dataset.validation, None)


def _sides(facts: FileFacts) -> tuple[int, ...]:
    if facts.headers is None:
        return tuple(facts.options["shape"].value[-1:])
    return tuple(min(size) for size in list(facts.headers.sizes)[:1])


def _mismatch(network: GivenNetwork, classes: int, source: str, place: Path, facts: FileFacts) -> str:
    """The sentence for a head with another number of outputs than the data set has classes."""
    outputs = network.num_outputs or 0
    names = f" ({some(facts.class_names)})" if facts.class_names else ""
    if outputs == 1000:
        why = "1000 outputs are those of ImageNet: is this the checkpoint from before it was trained on your images?"
    elif outputs == 1:
        why = "a network with one output (a sigmoid) is not supported; it needs one output per class"
    elif outputs > classes:
        why = f"does the data set lack {_classes(outputs - classes)} of its training?"
    else:
        why = f"does the data set have {_classes(classes - outputs)} too many{names}?"
    return (
        f"the head of trainer.checkpoint={network.checkpoint} has {outputs} {'output' if outputs == 1 else 'outputs'} ({network.head}), "
        f"but the data set has {classes} classes ({source} of '{place}'); {why}"
    )


def _wrong_channels(place: Path, shape: Sequence[int], wanted: int) -> str:
    """The sentence for tensors with another number of channels than the checkpoint."""
    found, remedy = f"images with {shape[0]} channels", f"save images with {wanted}, or use the checkpoint of a network for {shape[0]}"
    if len(shape) == 2:
        found = f"images of shape {tuple(shape)} without an axis of channels"
        remedy = "save images[:, None]" if wanted == 1 else f"save numpy.repeat(images[:, None], {wanted}, axis=1)"
    elif len(shape) == 3 and shape[2] == wanted:
        found = f"images of shape {tuple(shape)}, whose channels are last"
        remedy = "save numpy.moveaxis(images, -1, 1)"
    elif shape[0] == 1:
        found, remedy = "images with 1 channel", f"save numpy.repeat(images, {wanted}, axis=1)"
    return f"'{place}' contains {found}, but the first convolution in the checkpoint has {wanted} input channels; {remedy}"


def _check_scale(mean: Sequence[float], std: Sequence[float]) -> None:
    """Check that constants can be those of pixels in [0, 1].

    Raises:
        UserError: a mean is outside 0 to 1, or a deviation above 1.
    """
    if all(0 <= value <= 1 for value in mean) and all(value <= 1 for value in std):
        return
    given = f"{as_override('trainer.preprocess.mean', mean)} {as_override('trainer.preprocess.std', std)}"
    remedy = "give those of your network's training, divided by the highest value of its pixels"
    if all(0 <= value <= 255 for value in (*mean, *std)):
        scaled = [[value / 255 for value in values] for values in (mean, std)]
        remedy = (
            f"if they are of pixels in 0 to 255, set {as_override('trainer.preprocess.mean', scaled[0])} "
            f"{as_override('trainer.preprocess.std', scaled[1])}"
        )
    raise UserError(f"{given} cannot be the mean and the standard deviation of pixels in 0 to 1; {remedy}")


def _classes(count: int) -> str:
    return "1 class" if count == 1 else f"{count} classes"


def _statistics(dataset: DataSet, root: Path) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return (mean, standard deviation) per channel of pixels in [0, 1], over evenly spaced training images."""
    pixels = dataset.load(root).train
    index = torch.linspace(0, len(pixels) - 1, min(_STATISTICS, len(pixels))).long()
    values = Preprocess().normalise(pixels.fetch(index)).double().transpose(0, 1).flatten(1)
    # A constant channel has no deviation to divide by.
    std = values.std(1).clamp(min=1e-3)
    return tuple(values.mean(1).tolist()), tuple(std.tolist())
