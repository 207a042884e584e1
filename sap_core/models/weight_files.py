"""Reads weight files of other programs without running code of theirs; the content of a file decides its format, not its suffix.

Read are safetensors, `torch.save` (its zip format and the one before) with `weights_only=True`, and `.npz`. Other formats that are often
mistaken for these are recognised, so that the message can say what the file is and how its weights are saved in a format that is read.
"""

from __future__ import annotations

import json
import pickletools
import re
import shlex
import zipfile
from collections import deque
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from sap_core.checksum import Checksum, checksum
from sap_core.crafted_files import CraftedFileError, check_expansion
from sap_core.errors import UserError
from sap_core.files import DAMAGED
from sap_core.models.file_claims import check_archive, check_content

READ = "safetensors, torch.save(model.state_dict(), FILE) or numpy's .npz"
"""The formats that are read."""

_HEAD = 4096
"""Bytes of a file that are looked at to recognise its format."""

_LEGACY = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
"""What `torch.save` wrote first before torch 1.6."""

_COMPRESSED = {b"\x1f\x8b": "gzip -dc", b"BZh": "bzip2 -dc", b"\xfd7zXZ\x00": "xz -dc", b"\x28\xb5\x2f\xfd": "zstd -dc"}
"""First bytes of compressed files, and the command that decompresses them to standard output."""

_REFUSED_CLASS = re.compile(r"Unsupported global: GLOBAL (\S+)|(?:class|type|function) '?([A-Za-z_][\w.]*\.\w+)")
"""The class or function at which `torch.load(weights_only=True)` stopped, in its message."""


def read_weights(path: Path, key: str = "weights") -> Any:
    """Return the content of a weight file, on the CPU: a mapping that contains tensors, as it was saved.

    Args:
        path: of a file or, to say which of its files to name, of a folder.
        key: option that names the file, for messages.

    Raises:
        UserError: the file cannot be read, is of another format, or contains objects other than tensors, numbers and text.
    """
    if path.is_dir():
        raise UserError(f"{key}={path} is a folder; {_inside(path)}")
    try:
        with path.open("rb") as file:
            head = file.read(_HEAD)
        size = path.stat().st_size
    except OSError as error:
        raise _unreadable(path, key, f"the system refuses it ({error.strerror}); make it readable") from error
    if not head:
        raise _unreadable(path, key, "it is empty (0 bytes); copy or save it again")
    if head.startswith(b"PK"):
        return _read_zip(path, key)
    if head.startswith(_LEGACY):
        return _read_torch(path, key, head)
    if _is_safetensors(head):
        return _read_safetensors(path, key, head, size)
    raise _unreadable(path, key, f"it {_format(path, head)}")


def _unreadable(path: Path, key: str, why: str) -> UserError:
    return UserError(f"{key}={path} cannot be read as weights: {why}")


def _read_zip(path: Path, key: str) -> Any:
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
            # The first object that a pickle names is the class of what was saved, unless a dict was.
            pickled = next((name for name in names if name.endswith("data.pkl")), None)
            # Only its beginning: it is named by tensors, too, and large.
            start = archive.open(pickled).read(_HEAD) if pickled else b""
    except (zipfile.BadZipFile, OSError) as error:
        raise _unreadable(path, key, f"its end is missing, or it is damaged ({error}); copy or save it again") from error
    if any(name.endswith("constants.pkl") for name in names):
        raise _unreadable(
            path,
            key,
            "it is a TorchScript archive, a program with its weights; save the weights alone: "
            f"`import torch; torch.save(torch.jit.load({str(path)!r}, map_location='cpu').state_dict(), {_new(path)!r})`",
        )
    if pickled:
        return _read_torch(path, key, start)
    if names and all(name.endswith(".npy") for name in names):
        return _read_npz(path, key)
    # Keras 3 stores its weights inside such an archive.
    what = "a Keras model" if "model.weights.h5" in names else f"a zip archive of {len(names)} files ({_some(names)})"
    raise _unreadable(path, key, f"it is {what}, not weights of torch; give a file written as {READ}")


def _read_torch(path: Path, key: str, start: bytes) -> Any:
    """Read what `torch.save` wrote; `start` is the beginning of its pickle."""
    try:
        # On the CPU whatever device the file was saved from; `weights_only` lets tensors in and no code. An open file, because torch takes
        # a path that ends in .safetensors for that format.
        check_archive(path)
        with path.open("rb") as file:
            content = torch.load(file, map_location="cpu", weights_only=True)
        check_content(content, path.stat().st_size)
        return content
    except CraftedFileError as error:
        raise _unreadable(path, key, str(error)) from error
    except Exception as error:  # readers may raise anything on arbitrary bytes
        # torch's own message advises to read the file without this protection, so it is not passed on.
        found = _REFUSED_CLASS.search(str(error))
        if found is None:
            raise _unreadable(path, key, f"it is damaged, or torch.save did not write it; copy it again, or save it as {READ}") from error
        name = found[1] or found[2]
        raise _unreadable(path, key, f"it {_refused(name, _root_class(start, name), path)}") from error


def _refused(name: str, whole: bool, path: Path) -> str:
    """What a file contains besides tensors, and how to save the tensors alone."""
    what = f"is a whole pickled object of {name}" if whole else f"contains an object of {name} beside its tensors"
    extracted = path.with_name(f"{path.stem}.weights.pt")
    return (
        f"{what}, which cannot be read without running code of the file; save the weights alone, in the program that has the network as "
        f"`model`: `torch.save(model.state_dict(), {_new(path)!r})`, or extract them from this file without running any of its code: "
        f"`sap-sweep convert {shlex.quote(str(path))} {shlex.quote(str(extracted))}`"
    )


def _root_class(start: bytes, name: str) -> bool:
    """Return whether the pickle's outermost object is of the class `name`, rather than a dict that contains one."""
    stream = BytesIO(start)
    try:
        # Before torch 1.6 three pickles came first: a magic number, the format's version, and facts about the machine.
        for _ in range(3 if start.startswith(_LEGACY) else 0):
            deque(pickletools.genops(stream), maxlen=0)
        for code, argument, _ in pickletools.genops(stream):
            if code.name in ("GLOBAL", "INST"):
                return str(argument).replace(" ", ".") == name
            # A dict or list is opened first if the object is inside one.
            if code.name in ("EMPTY_DICT", "EMPTY_LIST", "DICT", "LIST"):
                return False
    except ValueError:  # the beginning of a pickle ends in the middle of an operation
        pass
    return False


def _is_safetensors(head: bytes) -> bool:
    # Eight bytes with the length of the header, which is JSON.
    return len(head) > 8 and head[8:9] == b"{" and int.from_bytes(head[:8], "little") < 1 << 40


def _read_safetensors(path: Path, key: str, head: bytes, size: int) -> Any:
    try:
        # Only files of this project contain one, such as a corrected network.
        if checksum(path, ".safetensors") is Checksum.DAMAGED:
            raise ValueError(DAMAGED)
        return load_file(path)
    except (SafetensorError, OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        cause = "its end is missing" if 8 + int.from_bytes(head[:8], "little") > size or "nComplete" in str(error) else str(error)
        raise _unreadable(path, key, f"it is a damaged safetensors file ({cause}); copy or save it again") from error


def _read_npz(path: Path, key: str) -> Any:
    try:
        # Arrays of objects are pickles and could run code.
        with zipfile.ZipFile(path) as archive:
            check_expansion(archive, path.stat().st_size)
        with np.load(path, allow_pickle=False) as arrays:
            return {name: torch.from_numpy(arrays[name]) for name in arrays.files}
    except Exception as error:  # readers may raise anything on arbitrary bytes
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        # numpy's own advice is to allow pickles.
        reason = "it contains an array of Python objects" if "allow_pickle" in reason else reason
        raise _unreadable(path, key, f"it is an .npz file with arrays that are no tensors ({reason}); save numbers only") from error


def _format(path: Path, head: bytes) -> str:
    """What a file is that is not read, and the remedy."""
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n")
    again = f"give a file written as {READ}"
    for magic, command in _COMPRESSED.items():
        if head.startswith(magic):
            plain = path.with_suffix("") if path.suffix in (".gz", ".bz2", ".xz", ".zst") else path.with_name(f"unpacked-{path.name}")
            return f"is compressed; decompress it with `{command} {path} > {plain}` and give that file"
    if text.startswith(b"version https://git-lfs"):
        return "is a pointer of Git LFS and not the file itself; fetch it in its checkout with `git lfs pull`"
    if re.match(rb"<(!doctype|html|\?xml|head|body|!--|error)", text[:16].lower()):
        return "is a web page (HTML or XML), such as a download page or an error message; download the file itself"
    if text.startswith((b"{", b"[")):
        return _json_file(path, again)
    if head.startswith(b"\x89HDF\r\n\x1a\n"):
        return f"is an HDF5 file, as Keras writes it, not weights of torch; {again}"
    if re.search(r"\.data-\d+-of-\d+$|\.ckpt\.index$|\.ckpt\.meta$", path.name):
        return f"is a part of a TensorFlow checkpoint, whose names and axes are not torch's; {again}"
    if _is_onnx(head):
        return f"is an ONNX file, a graph whose weights have lost torch's names; {again}, from the torch network that it was exported from"
    if _ends_with(path, b"\x57\xfb\x80\x8b\x24\x75\x47\xdb"):
        return f"is the index of a TensorFlow checkpoint, whose names and axes are not torch's; {again}"
    if head[:2] in (b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05"):
        return (
            "is a pickle that torch.save did not write, which cannot be read without running code; save the weights alone, in the program "
            f"that has the network as `model`: `torch.save(model.state_dict(), {_new(path)!r})`"
        )
    if head.startswith(b"GGUF"):
        return f"is a GGUF file, as llama.cpp reads it, not weights of torch; {again}"
    if head.startswith(b"\x93NUMPY"):
        return "is a single array of numpy (.npy) without names; save all weights by name, with numpy.savez(FILE, **arrays)"
    if head[257:262] == b"ustar":
        return f"is a tar archive; extract it with `tar -xf {path}` and give the file of weights inside"
    if head.startswith((b"\x89PNG", b"\xff\xd8\xff", b"GIF8")):
        return f"is an image; {again}"
    # Control characters other than white space are rare in text.
    if not re.search(rb"[\x00-\x08\x0e-\x1f]", head):
        first = text[:40].decode(errors="replace").split("\n")[0].strip()
        return f"is a text file that begins with {first!r}; {again}"
    return f"is in no format that is read (it begins with the bytes {head[:8].hex(' ')}); {again}"


def _json_file(path: Path, again: str) -> str:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        content = None
    if isinstance(content, Mapping) and isinstance(content.get("weight_map"), Mapping):
        parts = sorted({str(name) for name in content["weight_map"].values()})
        return f"is the index of weights in several files; {_merge(path.parent, parts)}"
    return f"is a JSON file without weights; {again}"


def _is_onnx(head: bytes) -> bool:
    # Protocol buffers have no magic number: the format's version (field 1), then the name of the program that wrote it (field 2).
    if len(head) < 5 or head[0] != 0x08 or not 0 < head[1] < 64 or head[2] != 0x12:
        return False
    name = head[4 : 4 + head[3]]
    return 0 < head[3] < 64 and name.isascii() and name.decode("ascii", "replace").isprintable()


def _ends_with(path: Path, magic: bytes) -> bool:
    try:
        with path.open("rb") as file:
            file.seek(-len(magic), 2)
            return file.read() == magic
    except OSError:  # shorter than the magic number
        return False


def _inside(folder: Path) -> str:
    """Which file of a folder to name."""
    names = sorted(path.name for path in folder.iterdir()) if folder.exists() else []
    if any(name.endswith(".index.json") for name in names):
        return _merge(folder, [name for name in names if re.search(r"-\d+-of-\d+\.", name)])
    if "saved_model.pb" in names:
        return f"it is a model of TensorFlow, not weights of torch; give a file written as {READ}"
    if "data.pkl" in names or ".metadata" in names or "zero_to_fp32.py" in names:
        return f"it holds a checkpoint in parts; save it as one file, written as {READ}"
    weights = [name for name in names if name.endswith((".safetensors", ".bin", ".pt", ".pth", ".ckpt", ".npz"))]
    # A folder of Hugging Face holds the same weights in several formats.
    preferred = next((name for name in ("model.safetensors", "pytorch_model.bin") if name in weights), None)
    if preferred or len(weights) == 1:
        return f"give the file of weights inside: {folder / (preferred or weights[0])}"
    if weights:
        return f"give one of the {len(weights)} files of weights inside ({_some(weights)})"
    return f"it contains no file of weights; give a file written as {READ}"


def _merge(folder: Path, parts: list[str]) -> str:
    """How weights in several files become one."""
    if parts and all(name.endswith(".safetensors") for name in parts):
        return (
            "merge them into one: `from pathlib import Path; from safetensors.torch import load_file, save_file; "
            f"save_file({{k: v for part in sorted(Path({str(folder)!r}).glob('*-of-*.safetensors')) for k, v in load_file(part).items()}}, "
            f"{str(folder / 'merged.safetensors')!r})`"
        )
    return (
        "merge them into one: `from pathlib import Path; import torch; "
        f"torch.save({{k: v for part in sorted(Path({str(folder)!r}).glob('*-of-*.bin')) for k, v in "
        f"torch.load(part, map_location='cpu', weights_only=True).items()}}, {str(folder / 'merged.pt')!r})`"
    )


def _new(path: Path) -> str:
    """A name for the weights of a file alone, beside it."""
    return str(path.with_name(f"{path.stem}.state_dict.pt"))


def _some(names: list[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
