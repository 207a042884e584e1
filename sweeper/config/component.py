"""Checks that configuration names a class of ours (or of a declared plug-in) and gives its fields values of their types."""

from __future__ import annotations

import dataclasses
import hashlib
import inspect
import math
import types
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from torch import nn

from sap_core.api import Corrector, Pruner, ReadsWeights, Trainer
from sap_core.components import component_id, name_of, version_of
from sap_core.construct import construct, is_entry, locate
from sap_core.data.source import DataSet, NoiseKind
from sap_core.errors import UserError, unknown
from sap_core.models.pretrained import weights_file
from sap_core.roles import flattened_fields
from sweeper.config.target import resolve_class

KINDS: dict[Any, str] = {
    DataSet: "dataset", NoiseKind: "noise", nn.Module: "model", Trainer: "trainer", Pruner: "pruner", Corrector: "method",
}  # fmt: skip
"""Interface -> the kind of component, which is part of every id."""

_GIVEN_BY_THE_PLATFORM = {"self", "num_outputs", "input_shape"}
_PLAIN = (bool, int, float, str, list, tuple, type(None))


@dataclass(frozen=True)
class Component:
    """A checked choice: what constructs it, and what identifies it."""

    name: str  # as the configuration calls it; part of no id
    target: str
    settings: dict[str, Any]  # complete, canonical (floats are floats, tuples are lists)
    defaults: dict[str, Any]
    where: str = ""  # the key it stands under
    kind: str = "component"  # a value of KINDS

    @property
    def version(self) -> int:
        return version_of(self.target)

    @property
    def entry(self) -> dict[str, Any]:
        """What `construct` takes."""
        return {"target": self.target, "settings": self.settings}

    def identity(self, outside: Sequence[str] = ()) -> dict[str, Any]:
        """Kind, name, version and the settings that differ from their declared defaults; a plug-in's package, too.

        Fields named in `outside` never count. A field that names a file (listed in the class's `file_fields`) counts by its content.
        """
        return _identity(self.kind, self.target, {key: value for key, value in self.settings.items() if key not in outside}, self.where)

    @property
    def columns(self) -> dict[str, Any]:
        """The settings as rows show them: a nested component by its name."""
        return shown(self.settings)

    @property
    def components(self) -> list[tuple[str, str]]:
        """(kind, dotted path) of this component and of those nested in it."""
        return _components(self.kind, self.target, self.settings)

    @cached_property
    def instance(self) -> Any:
        return construct(self.entry)


def parse_component(
    given: Mapping[str, Any], where: str, offers: type, plugins: Sequence[str] = (), extra: Mapping[str, Any] | None = None
) -> Component:
    """Checks one configured object: {name, _target_, fields...} (plus `extra` fields that the platform fills in).

    `offers` is the interface that the named class must offer: a protocol of `sap_core.api`, or the base class of networks.

    Raises:
        UserError: an unknown target, field, type or value; the sentence names the allowed ones.
    """
    target = given.get("_target_")
    cls = resolve_class(target, where, plugins, offers)
    offered = _fields(cls)
    settings: dict[str, Any] = {}
    for key, value in {**given, **(extra or {})}.items():
        if key in ("name", "_target_"):
            continue
        if key not in offered:
            raise unknown("key", key, offered, where)
        if is_entry(value):
            resolve_class(value["target"], f"{where}.{key}", plugins)
        settings[key] = _typed(value, offered[key][0], f"{where}.{key}")
    missing = [key for key, (_, default) in offered.items() if default is dataclasses.MISSING and key not in settings]
    if missing:
        raise UserError(f"{where} lacks a value for {', '.join(missing)}; set {where}.{missing[0]}=...")
    defaults = _defaults(cls)
    kind = KINDS.get(offers, "component")
    declared = Component(str(given.get("name") or where), str(target), {**defaults, **settings}, defaults, where, kind)
    try:
        fits = (not isinstance(cls, type) or issubclass(cls, nn.Module)) if offers is nn.Module else isinstance(declared.instance, offers)
    except (ValueError, TypeError) as error:
        raise UserError(f"{where}: {error}") from error
    if not fits:
        raise UserError(f"{where}._target_={target} does not offer what a {offers.__name__} must (docs/adding.md); name another class")
    return declared


@cache
def _fields(cls: type) -> dict[str, tuple[Any, Any]]:
    """Name -> (type, default or MISSING) of a dataclass's fields (those of flat parts beside them) or a network's keyword arguments."""
    if dataclasses.is_dataclass(cls):
        hints, parts = get_type_hints(cls), flattened_fields(cls)
        own = {item.name: (hints[item.name], item.default) for item in dataclasses.fields(cls) if item.name not in parts}
        inner = {name: (hint, getattr(part, name)) for holder, part in parts.items() for name, (hint, _) in _fields(hints[holder]).items()}
        return own | inner
    builder = next(vars(base)["__init__"] for base in cls.__mro__ if "__init__" in vars(base)) if isinstance(cls, type) else cls
    hints = get_type_hints(builder)  # of a constructor that may be inherited, or of a function that builds a network
    return {
        name: (hints.get(name, Any), dataclasses.MISSING if parameter.default is inspect.Parameter.empty else parameter.default)
        for name, parameter in inspect.signature(cls).parameters.items()
        if name not in _GIVEN_BY_THE_PLATFORM and _is_option(parameter)
    }


def _is_option(parameter: inspect.Parameter) -> bool:
    """Can configuration give it? Not *args and **kwargs, and not what has a default that YAML cannot write (a class, a function)."""
    named = parameter.kind not in (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return named and (parameter.default is inspect.Parameter.empty or isinstance(parameter.default, _PLAIN))


@cache
def _defaults(cls: type) -> dict[str, Any]:
    """The declared defaults of a class in canonical form."""
    return {key: _typed(default, hint, key) for key, (hint, default) in _fields(cls).items() if default is not dataclasses.MISSING}


def _typed(value: Any, hint: Any, where: str) -> Any:
    """`value` in canonical form if it is of type `hint`."""
    options = get_args(hint) if get_origin(hint) in (Union, types.UnionType) else (hint,)
    for option in sorted(options, key=lambda option: option is not type(value)):  # 300 stays whole where both kinds of number are allowed
        fits, canonical = _fit(value, option)
        if fits:
            return canonical
    allowed = " or ".join(_words(option) for option in options)
    raise UserError(f"{where}={value!r} is of the wrong type or value; allowed: {allowed}")


def _fit(value: Any, option: Any) -> tuple[bool, Any]:
    origin = get_origin(option)
    if origin is Literal:
        return any(value == allowed and type(value) is type(allowed) for allowed in get_args(option)), value
    if origin in (tuple, list, Sequence) or (isinstance(origin, type) and issubclass(origin, Sequence)):
        inner = get_args(option)[0] if get_args(option) else Any
        if not isinstance(value, list | tuple):
            return False, value
        parts = [_fit(item, inner) for item in value]
        return all(fits for fits, _ in parts), [part for _, part in parts]
    if option is float:
        number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
        return number, float(value) if number else value
    if option is int:
        return isinstance(value, int) and not isinstance(value, bool), value
    if option in (type(None), None):
        return value is None, value
    if option in (str, bool):
        return isinstance(value, option), value
    return option is Any or is_entry(value), value


def _words(option: Any) -> str:
    if get_origin(option) is Literal:
        return ", ".join(str(value) for value in get_args(option))
    plain = {int: "a whole number", float: "a number", str: "a text", bool: "true or false", type(None): "null"}
    return plain.get(option, "a list" if get_origin(option) else getattr(option, "__name__", str(option)))


def canonical(target: str, field: str, value: Any, where: str) -> Any:
    """`value` of a field in canonical form: 30000 is 30000.0 where the field is a float.

    Raises:
        UserError: it is of another type.
    """
    return _typed(value, _fields(locate(target))[field][0], f"{where}.{field}")


def shown(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings as rows show them: a nested component by its name, wherever its class lies."""
    return {key: name_of(value["target"]) if is_entry(value) else value for key, value in settings.items()}


def _identity(kind: str, target: str, settings: Mapping[str, Any], where: str = "") -> dict[str, Any]:
    cls: Any = locate(target)
    files, defaults = cls.file_fields if isinstance(cls, ReadsWeights) else (), _defaults(cls)
    changed = {key: value for key, value in settings.items() if not (key in defaults and defaults[key] == value)}
    counted = {
        key: _content(value, f"{where}.{key}".lstrip(".")) if key in files else _identity_of(cls, key, value)
        for key, value in changed.items()
    }
    return component_id(kind, target) | {"settings": counted}


def _identity_of(cls: type, key: str, value: Any) -> Any:
    """A nested entry is identified as a component of its own."""
    return _identity(_nested_kind(cls, key), value["target"], value["settings"]) if is_entry(value) else value


def _nested_kind(cls: type, key: str) -> str:
    """The kind that the field's annotation names; where it names none, the field's name."""
    hint = _fields(cls)[key][0] if key in _fields(cls) else None
    return next((KINDS[option] for option in (hint, *get_args(hint)) if isinstance(option, type) and option in KINDS), key)


def _components(kind: str, target: str, settings: Mapping[str, Any]) -> list[tuple[str, str]]:
    cls = locate(target)
    nested = [
        found
        for key, value in settings.items()
        if is_entry(value)
        for found in _components(_nested_kind(cls, key), value["target"], value["settings"])
    ]
    return [(kind, target), *nested]


def _content(path: str, key: str) -> str:
    """The SHA-256 of a file of weights that the setting `key` names.

    Raises:
        UserError: there is none.
    """
    found = weights_file(path, key)
    stat = found.stat()
    return _digest(found, stat.st_mtime_ns, stat.st_size)


@cache
def _digest(path: Path, changed: int, size: int) -> str:
    """Read once per process and state of the file."""
    with path.open("rb") as file:
        return f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"
