"""Parses configured components: checks that `_target_` names an allowed class and that each field has a value of its type.

A component (data set, noise, network, trainer, pruner, corrector) is identified by its kind, name, version and the settings that differ
from their declared defaults. Its import path is not part of its identity, so a class may move without changing any id.
"""

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
from sweeper.config.schema import canonical_text
from sweeper.config.target import resolve_class

COMPONENT_KINDS: dict[Any, str] = {
    DataSet: "dataset", NoiseKind: "noise", nn.Module: "model", Trainer: "trainer", Pruner: "pruner", Corrector: "method",
}  # fmt: skip
"""Interface -> kind of component. The kind is part of every id."""

# Arguments that the data set determines (`build_network` passes them), so that no YAML file repeats a number of classes or an input shape.
_SUPPLIED_ARGUMENTS = {"self", "num_outputs", "input_shape"}
# Types that YAML can write; a default of any other type (a norm layer, a function) is not an option of the configuration.
_PLAIN = (bool, int, float, str, list, tuple, type(None))


@dataclass(frozen=True)
class Component:
    """A checked component of the configuration."""

    name: str  # its name in the configuration, for tables; part of no id
    target: str  # dotted path of its class
    settings: dict[str, Any]  # complete, canonical (floats are floats, tuples are lists)
    defaults: dict[str, Any]
    where: str = ""  # its key in the configuration
    kind: str = "component"  # a value of COMPONENT_KINDS

    @property
    def version(self) -> int:
        return version_of(self.target)

    @property
    def entry(self) -> dict[str, Any]:
        """The argument of `sap_core.construct.construct`."""
        return {"target": self.target, "settings": self.settings}

    def identity(self, outside: Sequence[str] = ()) -> dict[str, Any]:
        """The part of an id that identifies this component.

        It contains the kind, the name, the version, the settings that differ from their declared defaults and, for a plug-in, its package.
        Fields named in `outside` are left out. A field that names a file (listed in the class's `file_fields`) is replaced by the file's
        SHA-256.
        """
        if not outside:
            # A plan asks for it once per seed and cell. Another version of a class is another identity, whenever it is set.
            versions = tuple(version_of(target) for _, target in self.components)
            if versions not in self._identities:
                self._identities[versions] = _identity(self.kind, self.target, self.settings, self.where)
            return self._identities[versions]
        return _identity(self.kind, self.target, {key: value for key, value in self.settings.items() if key not in outside}, self.where)

    @cached_property
    def _identities(self) -> dict[tuple[int, ...], dict[str, Any]]:
        """The identities that were computed, by the versions of the classes."""
        return {}

    @property
    def columns(self) -> dict[str, Any]:
        """The settings as rows store them: a nested component by its name."""
        return display_settings(self.settings)

    @cached_property
    def components(self) -> list[tuple[str, str]]:
        """(kind, dotted path) of this component and of the components nested in it."""
        return _components(self.kind, self.target, self.settings)

    @cached_property
    def instance(self) -> Any:
        return construct(self.entry)


def parse_component(
    given: Mapping[str, Any], where: str, interface: type, plugins: Sequence[str] = (), extra: Mapping[str, Any] | None = None
) -> Component:
    """Parse one component: {name, _target_, fields...}.

    Args:
        given: the component as configured.
        where: its configuration key, for error messages.
        interface: what the class must implement: a protocol of `sap_core.api`, or `torch.nn.Module`.
        plugins: further packages that `_target_` may name.
        extra: fields that the planner fills in.

    Raises:
        UserError: an unknown target, field, type or value; the message names the allowed ones.
    """
    target = given.get("_target_")
    cls = resolve_class(target, where, plugins, interface)
    offered = _fields(cls)
    settings: dict[str, Any] = {}
    for key, value in {**given, **(extra or {})}.items():
        if key in ("name", "_target_"):
            continue
        if key not in offered:
            raise unknown("key", key, offered, where)
        # A nested component is resolved as strictly as one at the top level.
        if is_entry(value):
            resolve_class(value["target"], f"{where}.{key}", plugins)
        settings[key] = _check_type(value, offered[key][0], f"{where}.{key}")
    # Missing values are reported before any value is constructed, with the override that sets the first of them.
    missing = [key for key, (_, default) in offered.items() if default is dataclasses.MISSING and key not in settings]
    if missing:
        raise UserError(f"{where} has no value for {', '.join(missing)}; set {where}.{missing[0]}=...")
    # Settings are stored complete, defaults included, so that a row records what ran; only ids leave the defaults out.
    defaults = _defaults(cls)
    kind = COMPONENT_KINDS.get(interface, "component")
    component = Component(str(given.get("name") or where), str(target), {**defaults, **settings}, defaults, where, kind)
    # Components are constructed here, so that a value that the class itself rejects is reported before any job runs.
    try:
        # Networks have no protocol of their own: a subclass of Module, or a function that builds one, will do.
        implements = (
            (not isinstance(cls, type) or issubclass(cls, nn.Module))
            if interface is nn.Module
            else _implements(cls, component.instance, interface)
        )
    except (ValueError, TypeError) as error:
        raise UserError(f"{where}: {error}") from error
    if not implements:
        raise UserError(
            f"{where}._target_={target} does not implement the interface {interface.__name__} (docs/adding.md); name another class"
        )
    return component


_IMPLEMENTED: set[tuple[type, type]] = set()
"""(class, interface) that were found to match: a protocol looks for every member, which takes longer than the other checks of a setting."""


def _implements(cls: type, instance: Any, interface: type) -> bool:
    if (cls, interface) not in _IMPLEMENTED and isinstance(instance, interface):
        _IMPLEMENTED.add((cls, interface))
    return (cls, interface) in _IMPLEMENTED


# Classes do not change while the program runs, and the 675 settings of a SCRUB grid ask for the same fields.
@cache
def _fields(cls: type) -> dict[str, tuple[Any, Any]]:
    """Name -> (type, default or MISSING) of a dataclass's fields, those of its flat parts included, or of a network's keyword arguments."""
    if dataclasses.is_dataclass(cls):
        # A trainer nests the common recipe in one field, whose own fields appear flat beside the trainer's in YAML (trainer.rho,
        # trainer.epochs).
        hints, parts = get_type_hints(cls), flattened_fields(cls)
        # The flattened field itself is no key of YAML, its fields are.
        own = {item.name: (hints[item.name], item.default) for item in dataclasses.fields(cls) if item.name not in parts}
        inner = {name: (hint, getattr(part, name)) for holder, part in parts.items() for name, (hint, _) in _fields(hints[holder]).items()}
        return own | inner
    # get_type_hints needs the function itself: an inherited constructor, or a function that builds a network
    builder = next(vars(base)["__init__"] for base in cls.__mro__ if "__init__" in vars(base)) if isinstance(cls, type) else cls
    hints = get_type_hints(builder)
    return {
        name: (hints.get(name, Any), dataclasses.MISSING if parameter.default is inspect.Parameter.empty else parameter.default)
        for name, parameter in inspect.signature(cls).parameters.items()
        if name not in _SUPPLIED_ARGUMENTS and _is_option(parameter)
    }


def is_text_field(cls: type, name: str) -> bool:
    """Whether a field of a class is text, or a list of texts: a number or a truth value is none of its values."""
    hint = _fields(cls)[name][0] if name in _fields(cls) else Any
    options = [option for option in _options(hint) if option not in (None, type(None))]
    return bool(options) and all(_is_text(option) for option in options)


def with_texts(cls: type, given: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a component with numbers as text where the field is text, such as a folder 2020."""
    return {
        key: canonical_text(value) if isinstance(value, bool | int | float) and is_text_field(cls, key) else value
        for key, value in given.items()
    }


def _options(hint: Any) -> tuple[Any, ...]:
    return get_args(hint) if get_origin(hint) in (Union, types.UnionType) else (hint,)


def _is_text(option: Any) -> bool:
    origin = get_origin(option)
    if origin is Literal:
        return all(isinstance(value, str) for value in get_args(option))
    if origin in (tuple, list, Sequence) or (isinstance(origin, type) and issubclass(origin, Sequence)):
        return all(inner in (str, ...) for inner in get_args(option))
    return option is str


def _is_option(parameter: inspect.Parameter) -> bool:
    """Whether YAML can set it: no *args or **kwargs, and no parameter whose default is a class or a function."""
    named = parameter.kind not in (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return named and (parameter.default is inspect.Parameter.empty or isinstance(parameter.default, _PLAIN))


@cache
def _defaults(cls: type) -> dict[str, Any]:
    """The declared defaults of a class in canonical form."""
    return {key: _check_type(default, hint, key) for key, (hint, default) in _fields(cls).items() if default is not dataclasses.MISSING}


def _check_type(value: Any, hint: Any, where: str) -> Any:
    """`value` in canonical form.

    Raises:
        UserError: it is not of type `hint`.
    """
    options = _options(hint)
    # An exact match comes first, so that 300 stays an int where both int and float are allowed.
    for option in sorted(options, key=lambda option: option is not type(value)):
        matches, canonical = _coerce(value, option)
        if matches:
            return canonical
    # A name that looks like a number, such as a folder 2020.
    if str in options and isinstance(value, bool | int | float):
        return canonical_text(value)
    allowed = " or ".join(_type_name(option) for option in options)
    raise UserError(f"{where}={value!r} is of the wrong type or value; allowed: {allowed}")


def _coerce(value: Any, option: Any) -> tuple[bool, Any]:
    """(whether `value` is of type `option`, its canonical form)."""
    origin = get_origin(option)
    # The types must agree as well, because 1 == 1.0 == True in Python.
    if origin is Literal:
        return any(value == allowed and type(value) is type(allowed) for allowed in get_args(option)), value
    if origin in (tuple, list, Sequence) or (isinstance(origin, type) and issubclass(origin, Sequence)):
        inner = get_args(option)[0] if get_args(option) else Any
        if not isinstance(value, list | tuple):
            return False, value
        # Tuples become lists, because rows and ids are JSON, which has no tuples.
        items = [_coerce(item if inner is not str or isinstance(item, str) else canonical_text(item), inner) for item in value]
        return all(matches for matches, _ in items), [item for _, item in items]
    if option is float:
        # bool is a subclass of int, and .nan or .inf is valid YAML: neither is a hyperparameter value. Ids depend on the repr of a float,
        # so a configured 1 becomes 1.0 and has the same id.
        number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
        # -0.0 is 0.0, which has another repr.
        return number, float(value) + 0.0 if number else value
    if option is int:
        return isinstance(value, int) and not isinstance(value, bool), value
    if option in (type(None), None):
        return value is None, value
    if option in (str, bool):
        return isinstance(value, option), value
    # A field of another type takes a nested component; its class was resolved before.
    return option is Any or is_entry(value), value


def _type_name(option: Any) -> str:
    if get_origin(option) is Literal:
        return ", ".join(str(value) for value in get_args(option))
    # In the words of a user of YAML, not in Python's.
    plain = {int: "a whole number", float: "a number", str: "a string", bool: "true or false", type(None): "null"}
    return plain.get(option, "a list" if get_origin(option) else getattr(option, "__name__", str(option)))


def canonical_value(target: str, field: str, value: Any, where: str) -> Any:
    """Convert a field's value to canonical form, such as 30000 to 30000.0 for a float field.

    Raises:
        UserError: the value is of another type.
    """
    return _check_type(value, _fields(locate(target))[field][0], f"{where}.{field}")


def display_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings as rows store them: a nested component by its name, which does not depend on its import path."""
    return {key: name_of(value["target"]) if is_entry(value) else value for key, value in settings.items()}


def _identity(kind: str, target: str, settings: Mapping[str, Any], where: str = "") -> dict[str, Any]:
    # Only what differs from the defaults enters an id: an option that is added later with its default changes no stored id.
    cls: Any = locate(target)
    files, defaults = _file_fields(cls), _defaults(cls)
    changed = {key: value for key, value in settings.items() if not (key in defaults and defaults[key] == value)}
    # A weights file counts by its content, wherever it is stored.
    identified = {
        key: _file_identity(value, f"{where}.{key}".lstrip(".")) if key in files else _nested_identity(cls, key, value)
        for key, value in changed.items()
    }
    return component_id(kind, target) | {"settings": identified}


@cache
def _file_fields(cls: Any) -> tuple[str, ...]:
    return tuple(cls.file_fields) if isinstance(cls, ReadsWeights) else ()


def _nested_identity(cls: type, key: str, value: Any) -> Any:
    """The identity of a nested component; any other value unchanged."""
    return _identity(_nested_kind(cls, key), value["target"], value["settings"]) if is_entry(value) else value


def _nested_kind(cls: type, key: str) -> str:
    """The kind of the interface in the field's annotation; the field's name if there is none."""
    hint = _fields(cls)[key][0] if key in _fields(cls) else None
    return next(
        (COMPONENT_KINDS[option] for option in (hint, *get_args(hint)) if isinstance(option, type) and option in COMPONENT_KINDS), key
    )


def _components(kind: str, target: str, settings: Mapping[str, Any]) -> list[tuple[str, str]]:
    cls = locate(target)
    nested = [
        found
        for key, value in settings.items()
        if is_entry(value)
        for found in _components(_nested_kind(cls, key), value["target"], value["settings"])
    ]
    return [(kind, target), *nested]


def _file_identity(path: str, key: str) -> str:
    """The SHA-256 of the weights file that the setting `key` names.

    Raises:
        UserError: the file does not exist.
    """
    found = weights_file(path, key)
    # Time and size are part of the cache key, so that a file that is replaced while the process runs is hashed again.
    stat = found.stat()
    return _sha256(found, stat.st_mtime_ns, stat.st_size)


@cache
def _sha256(path: Path, changed: int, size: int) -> str:
    """Cached by modification time and size, because the weights of large networks take long to hash."""
    with path.open("rb") as file:
        return f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"
