"""Whether an artifact on the disk is the one that was stored. Loads no torch, so that schedulers can ask.

An artifact is a folder with files and, written last, a marker: `meta.json`, which contains the checksums of the files and the id of the
job. A damaged artifact counts as missing: the job that made it runs again, and nothing is computed from it.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from sap_core.checksum import is_intact, stored_digest
from sap_core.files import DAMAGED, load_json, save_json
from sweeper.jobs.job import artifact

ARTIFACT_FILES = {"train": "model.safetensors", "select": "selection.safetensors"}
"""Type of job -> the file of its artifact."""

_FILES, _JOB = "files", "job_id"


def write_marker(marker: Path, names: tuple[str, ...], content: Mapping[str, Any]) -> None:
    """Write the marker of an artifact whose files, `names`, are complete.

    Raises:
        StorageError: it cannot be written.
    """
    digests = {name: stored_digest(marker.with_name(name)) for name in names}
    save_json(marker, {**content, _FILES: digests})


def is_complete(artifacts: Path, job_id: str) -> bool:
    """Whether a job's artifact exists and is intact. Files are read once per process as long as they do not change."""
    return artifact(artifacts, job_id).exists() and damage(artifacts, job_id) is None


def damage(artifacts: Path, job_id: str) -> str | None:
    """Why the artifact of a job cannot be used, as a sentence without a full stop; None if it is intact or missing."""
    marker = artifact(artifacts, job_id)
    return damage_of(marker, ARTIFACT_FILES.values(), {_JOB: job_id}) if marker.exists() else None


def damage_of(marker: Path, possible: Any, expected: Mapping[str, str]) -> str | None:
    """As `damage`, for any folder with a marker.

    Args:
        marker: its `meta.json`.
        possible: names of the files of a marker without checksums, as written by earlier versions; those that exist are verified.
        expected: what the marker has to contain if it has these keys.
    """
    try:
        stored = load_json(marker)
    except (OSError, ValueError) as error:
        return f"{marker} cannot be read ({error})"
    for key, value in expected.items():
        if stored.get(key, value) != value:
            return f"{marker} belongs to {key} {stored[key]}"
    digests = stored.get(_FILES)
    if not isinstance(digests, dict):
        digests = {name: None for name in possible if marker.with_name(name).exists()}
    for name, digest in digests.items():
        path = marker.with_name(str(name))
        if not path.exists():
            return f"{path} is missing"
        if not is_intact(path):
            return f"{path} cannot be used ({DAMAGED})"
        if digest is not None and stored_digest(path) != digest:
            return f"{path} is not the file that was stored with its {marker.name}"
    return None


def set_aside(artifacts: Path, job_id: str) -> None:
    """Rename the files of a damaged artifact to names that begin with a dot, the marker first.

    Raises:
        OSError: they cannot be renamed.
    """
    marker = artifact(artifacts, job_id)
    # The marker first: without it nothing of the rest is read.
    for path in (marker, *(marker.with_name(name) for name in ARTIFACT_FILES.values())):
        with suppress(FileNotFoundError):
            path.replace(path.with_name(f".{path.name}.damaged"))


def changed_since(artifacts: Path, job_id: str) -> bool:
    """Whether the files of an artifact differ from those that were set aside when it was damaged, by the checksums in the markers."""
    marker = artifact(artifacts, job_id)
    with suppress(OSError, ValueError):
        before = load_json(marker.with_name(f".{marker.name}.damaged")).get(_FILES)
        return before is not None and before != load_json(marker).get(_FILES)
    return False
