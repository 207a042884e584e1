"""Hydra's --multirun: several values of a key on the command line (`-m noise.rate=0.1,0.25 model=glob(resnet*)`).

Hydra starts one job per combination. Here the combinations become cells of one plan, so that they share baselines, a store and a schedule.
Values are read by Hydra's parser. `experiment=a,b` are two sweeps; a key that a sweep has once is refused with a command that works.
"""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

from hydra.core.override_parser.types import ChoiceSweep, Glob, Override, QuotedString, RangeSweep
from hydra.errors import HydraException

from sap_core.command_line import shell_word
from sap_core.errors import UserError
from sweeper.config.choices import split_config_dirs, split_multirun, unknown_choice
from sweeper.config.composition import options
from sweeper.config.multirun_advice import advice, comma_remedy
from sweeper.config.override_text import override_text, parse_argument, with_quotes
from sweeper.config.schema import CELL_GROUPS, GROUPS, MERGED_LISTS

EXPERIMENT = "experiment"

_MOST = 1000
"""The most values of one key; more are taken for a mistake, such as a step of 0.0001."""


@dataclass(frozen=True)
class Crossed:
    """The overrides of a command line, those of cells crossed."""

    fixed: list[Override]  # one value each
    combinations: list[list[Override]]  # values of the keys of cells, the last key varying fastest; [[]] if no key has several


def split_experiments(arguments: Sequence[str]) -> list[list[str]]:
    """The command lines of the experiments that `-m experiment=a,b` names, one each; the one command line if there is no such argument.

    Raises:
        UserError: an argument cannot be read, or no experiment matches.
    """
    multirun, words = split_multirun(arguments)
    if not multirun:
        return [list(arguments)]
    folders, _ = split_config_dirs(words)
    for number, word in enumerate(words):
        override = parse_argument(word) if word.startswith(f"{EXPERIMENT}=") else None
        if override is not None and override.is_sweep_override():
            lines = dict.fromkeys(values_of(word, override, folders))
            return [["--multirun", *words[:number], line, *words[number + 1 :]] for line in lines]
    return [list(arguments)]


def cross(words: Sequence[str], overrides: Sequence[Override], multirun: bool, folders: Sequence[Path]) -> Crossed:
    """Cross the values of the keys that have several.

    Args:
        words: the arguments KEY=VALUE.
        overrides: the same, parsed.
        multirun: whether --multirun was given.
        folders: of --config-dir, for glob().

    Raises:
        UserError: a key has several values without --multirun, or has one value in a whole sweep.
    """
    keys = [override.key_or_group for override in overrides]
    for override in overrides:
        if override.is_sweep_override() and keys.count(override.key_or_group) > 1:
            raise UserError(f"{override.key_or_group} is given twice, once with several values; write one of them")
    fixed: list[Override] = []
    varied: dict[str, list[Override]] = {}
    for word, override in zip(words, overrides, strict=True):
        key = override.key_or_group
        if not override.is_sweep_override():
            fixed.append(override)
            continue
        lines = values_of(word, override, folders)
        if key.split(".")[0] not in CELL_GROUPS and key not in MERGED_LISTS:
            values = [parse_argument(line).value() for line in lines]
            # A command with a choice that does not exist would not work.
            for value in values if key in GROUPS else ():
                if str(value) not in (allowed := options(key, folders)):
                    raise unknown_choice(key, value, allowed, folders)
            raise UserError(f"'{word}' gives several values of {key}, {advice(key, values, words, overrides)}")
        if not multirun:
            # Hydra reads a,b as several values too, and asks for --multirun.
            line = " ".join(["sap-sweep -m", *map(shell_word, words)])
            raise UserError(f"'{word}' gives several values; {comma_remedy(override)}to cross them, add --multirun (-m): {line}")
        if key in MERGED_LISTS:
            # All seeds and methods of a sweep are crossed already, so several values are one list.
            fixed.append(parse_argument(f"{key}={override_text(_merged(map(parse_argument, lines)))}"))
        else:
            varied[key] = [parse_argument(line) for line in lines]
    return Crossed(fixed, [list(chosen) for chosen in itertools.product(*varied.values())])


def values_of(word: str, override: Override, folders: Sequence[Path]) -> list[str]:
    """One argument KEY=VALUE per value of an argument with several.

    Raises:
        UserError: the argument describes no finite list of values.
    """
    key, _, written = word.partition("=")
    # The sweep itself, which Hydra hands out for a value of this kind.
    sweep: Any = override.value()
    if override.is_interval_sweep():
        raise UserError(f"'{word}' is an interval, which has no list of values; give them, as in {shell_word(f'{key}=0.1,0.25')}")
    if isinstance(sweep, Glob):
        return [f"{key}={name}" for name in _matching(word, override.key_or_group, sweep, folders)]
    if isinstance(sweep, RangeSweep):
        return [f"{key}={number}" for number in _range(word, sweep)]
    try:
        values = list(override.sweep_iterator())
    except HydraException as error:
        raise UserError(f"'{word}' gives no list of values ({' '.join(str(error).split())}); write {key}=VALUE,VALUE") from error
    texts = _texts(written, sweep, len(values))
    return [f"{key}={_value_text(value, text)}" for value, text in zip(values, texts, strict=True)]


def _matching(word: str, group: str, glob: Glob, folders: Sequence[Path]) -> list[str]:
    if group not in GROUPS:
        raise UserError(f"'{word}': glob() matches choices of a group ({', '.join(GROUPS)}); list the values of {group}")
    allowed = options(group, folders)
    found = glob.filter(allowed)
    if not found:
        raise UserError(f"'{word}' matches no choice of {group}; allowed: {', '.join(allowed)}")
    return [str(name) for name in found]


def _range(word: str, sweep: RangeSweep) -> list[int | float]:
    """The numbers of a range, the end excluded."""
    start, stop, step = (Decimal(repr(0 if number is None else number)) for number in (sweep.start, sweep.stop, sweep.step))
    # Decimals, because Hydra's sums of binary fractions reach 0.30000000000000004, and sometimes the end.
    count = 0 if not step else max(0, math.ceil((stop - start) / step))
    if not 0 < count <= _MOST:
        raise UserError(f"'{word}' has {count:,} values; a range(START,STOP,STEP) excludes its end, and may have 1 to {_MOST:,} values")
    whole = all(isinstance(number, int) for number in (sweep.start, sweep.stop, sweep.step))
    numbers = [int(number) if whole else float(number) for number in (start + position * step for position in range(count))]
    if sweep.shuffle:
        random.shuffle(numbers)
    return numbers


def _texts(written: str, sweep: Any, count: int) -> list[str | None]:
    """The values as they were typed, such as 1.10 for the number 1.1; None where that is not known."""
    # The order of sorted and shuffled values is not the one that was typed.
    if isinstance(sweep, ChoiceSweep) and sweep.simple_form and not sweep.shuffle:
        try:
            quoted: Any = parse_argument(f"x={with_quotes(written, every=True)}").value()
        except UserError:
            quoted = None
        found = quoted.list if isinstance(quoted, ChoiceSweep) else []
        if len(found) == count:
            return [item.text if isinstance(item, QuotedString) else None for item in found]
    return [None] * count


def _value_text(value: Any, text: str | None) -> str:
    plain = _plain(value)
    return override_text(plain) if isinstance(plain, str | list | dict) or text is None else text


def _plain(value: Any) -> Any:
    """A parsed value without Hydra's quotes."""
    if isinstance(value, QuotedString):
        return value.text
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return {_plain(key): _plain(item) for key, item in value.items()} if isinstance(value, dict) else value


def _merged(overrides: Iterator[Override]) -> list[Any]:
    """The values of several lists or single values, each once."""
    lists = (value if isinstance(value, list) else [value] for value in (override.value() for override in overrides))
    return list(dict.fromkeys(itertools.chain.from_iterable(lists)))
