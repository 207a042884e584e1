"""Reads a store's config.yaml."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sap_core.files import load_text


def read_config(path: Path) -> dict[str, Any]:
    """The configuration that a start stored.

    Raises:
        OSError: the file cannot be read.
        ValueError: it differs from its checksum, or is not a YAML mapping.
    """
    # Imported here, because few commands read a configuration.
    import yaml
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    try:
        # OmegaConf's reader, which wrote the file: it differs from PyYAML's in numbers such as 1e-3.
        text = load_text(path)
        # OmegaConf copies what an alias refers to at every use, so that aliases of aliases would not end.
        if any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(text, getattr(yaml, "CSafeLoader", yaml.SafeLoader))):
            raise ValueError("it has aliases (*), which sap-sweep does not write")
        plain: Any = OmegaConf.to_container(OmegaConf.create(text))
    except (OmegaConfBaseException, yaml.YAMLError, RecursionError, AttributeError, TypeError) as error:
        raise ValueError(" ".join(str(error).split())[:200] or "it is not YAML") from error
    if not isinstance(plain, dict) or not plain:
        raise ValueError("it is not a YAML mapping")
    return plain
