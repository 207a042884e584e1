"""The source from which Hydra loads the YAML files of `conf/` and of --config-dir.

Hydra's own source parses a file again for each composition, in Python, and its messages name no file. This one is a plug-in of Hydra that
reads with `sap_core.yaml_files`, once per process unless the file changes, and checks what Hydra would accept without a word: the
`@package` line, empty files, and names that look like numbers.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar

from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.object_type import ObjectType
from hydra.core.plugins import Plugins
from hydra.plugins.config_source import ConfigLoadError, ConfigResult, ConfigSource
from hydra.plugins.search_path_plugin import SearchPathPlugin
from omegaconf import DictConfig, ListConfig, OmegaConf

from sap_core.errors import UserError
from sap_core.yaml_files import Document, parse_yaml, read_text
from sweeper.config.choices import choices, is_choice, shipped_folder, user_clusters
from sweeper.config.schema import is_text

SCHEME = "yaml"
CLUSTERS = "clusters"
"""The scheme of the user's folder of cluster files."""

SHIPPED = "pkg://conf"
"""The shipped files, as Hydra names a package."""

_PACKAGE = re.compile(r"#\s*@package\b[ \t:]*(\S*)\s*")


class YamlSource(ConfigSource):
    """A folder of YAML files, with one subfolder per group."""

    @staticmethod
    def scheme() -> str:
        return SCHEME

    def available(self) -> bool:
        return Path(self.path).is_dir()

    def is_group(self, config_path: str) -> bool:
        return (Path(self.path) / config_path).is_dir()

    def is_config(self, config_path: str) -> bool:
        return is_choice(self._file(config_path))

    def load_config(self, config_path: str) -> ConfigResult:
        file = self._file(config_path)
        if not file.is_file():
            raise ConfigLoadError(f"Config not found : {config_path}")
        group, _, _ = config_path.rpartition("/")
        # Hydra changes what it gets.
        config = _as_config(read_file(file, group).data)
        package = _package(read_text(file)) or None
        return ConfigResult(provider=self.provider, path=self.full_path(), config=config, header={"package": package})

    def list(self, config_path: str, results_filter: ObjectType | None) -> list[str]:
        found: list[str] = []
        for path in (Path(self.path) / config_path).iterdir():
            if is_choice(path) or path.is_dir():
                self._list_add_result(found, str(Path(config_path) / path.name), path.name, results_filter)
        return sorted(set(found))

    def _file(self, config_path: str) -> Path:
        return Path(self.path) / self._normalize_file_name(config_path)


class ClusterSource(YamlSource):
    """The folder that contains the user's cluster files, as the group `cluster`; other files in it are no choices."""

    @staticmethod
    def scheme() -> str:
        return CLUSTERS

    def is_group(self, config_path: str) -> bool:
        return config_path == "cluster" and super().is_group(config_path)

    def is_config(self, config_path: str) -> bool:
        return config_path.startswith("cluster/") and super().is_config(config_path)

    def list(self, config_path: str, results_filter: ObjectType | None) -> list[str]:
        return super().list(config_path, results_filter) if config_path == "cluster" else []


class Folders(SearchPathPlugin):
    """Replaces the package of the shipped files in Hydra's search path by their folder, and adds the user's clusters and --config-dir."""

    # Hydra makes the plug-in without arguments; its other registries are global to the process, too.
    own: ClassVar[tuple[Path, ...]] = ()

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        for entry in search_path.get_path():
            if entry.path == SHIPPED:
                entry.path = address(shipped_folder())
        if user_clusters().is_dir():
            # First, because the user's own file of a name replaces the shipped one.
            search_path.prepend("clusters", f"{CLUSTERS}://{user_clusters().parent}")
        for folder in self.own:
            search_path.append("--config-dir", address(folder))


def register_source(folders: Sequence[Path]) -> None:
    """Make Hydra load the shipped files and those of the folders with `YamlSource`."""
    Folders.own = tuple(folders)
    for plugin in (YamlSource, ClusterSource, Folders):
        Plugins.instance().register(plugin)


def address(folder: Path) -> str:
    """The entry of Hydra's search path for a folder."""
    return f"{SCHEME}://{folder}"


def read_file(path: Path, group: str) -> Document:
    """Read a file of a group ("" for the root).

    Raises:
        UserError: it is not YAML, has no content or is no mapping, or its `@package` line is not that of its group.
    """
    return _read(str(path), group, read_text(path))


@lru_cache(maxsize=1024)
def _read(path: str, group: str, text: str) -> Document:
    """As `read_file`; cached by the text, so that a file that was edited is read again."""
    prefix = () if not group or _package(text) == "_global_" else tuple(group.split("/"))
    document = parse_yaml(text, path, lambda keys: is_text((*prefix, *keys)))
    if document.data is None:
        raise UserError(f"{path} is empty; write its keys, as sap-sweep list shows files of the group, or delete it")
    if not isinstance(document.data, dict):
        kind = "a list" if isinstance(document.data, list) else "a single value"
        raise UserError(f"{path}, line 1: the file is {kind}; it must be a mapping, with lines KEY: VALUE")
    package = _package(text)
    if group == "experiment" and package != "_global_":
        raise UserError(
            f"{path}, line 1: an experiment sets keys of the whole configuration; make '# @package _global_' the first line of the file"
        )
    if group == "experiment" and "hydra" in document.data:
        raise UserError(
            f"{path}: the key hydra has no effect, because Hydra only composes the configuration here; write lists of values in cells, "
            "as in cells: [{noise.rate: [0.1, 0.25]}]"
        )
    if group not in ("experiment", "") and package not in ("", "_group_"):
        raise UserError(f"{path}, line 1: only experiments have a line '# @package {package}'; remove it from this file of {group}")
    return document


def _package(text: str) -> str:
    """The package that the first line names; "" if there is none. As in Hydra, only empty lines may precede it."""
    found = _PACKAGE.fullmatch(next((line.strip() for line in text.splitlines() if line.strip()), ""))
    return found[1] if found else ""


def _as_config(data: Any) -> DictConfig | ListConfig:
    return OmegaConf.create(data)


def written_numbers(folders: Sequence[Path]) -> Iterator[tuple[str, Any, str]]:
    """(key, value, text) of each unquoted number, boolean and null in the files of these folders, as in ("dataset.folder", 1.1, "1.10")."""
    for folder in folders:
        for group in sorted(path.name for path in folder.iterdir() if path.is_dir()):
            for path in choices(folder / group):
                # A file that is not chosen may have any mistake.
                try:
                    document = read_file(path, group)
                except UserError:
                    continue
                prefix = () if group == "experiment" else ("method", path.stem) if group == "method" else (group,)
                for keys, value, text in document.written:
                    # The keys of a cell are written with dots.
                    yield ".".join(keys[1:] if keys[0] == "cells" else (*prefix, *keys)), value, text
