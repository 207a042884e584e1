"""Weight files that claim more than they contain, or that would crash a reader or change a function, are refused in one sentence."""

from __future__ import annotations

import io
import pickle
import struct
import zipfile
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
import torch

from sap_core.errors import UserError
from sap_core.models.inert_pickle import read_tensors
from sap_core.models.weight_files import read_weights

REBUILD = torch.zeros(1).__reduce_ex__(2)[0]
"""The function that a file of torch names for each tensor."""

DEFAULTS = REBUILD.__defaults__


class Call:
    def __init__(self, function, *arguments, state=None):
        self.parts = (function, arguments) if state is None else (function, arguments, state)

    def __reduce__(self):
        return self.parts


class Pickler(pickle.Pickler):
    def persistent_id(self, value):
        return value if isinstance(value, tuple) and value[:1] == ("storage",) else None


def storage(elements, *more):
    return ("storage", torch.FloatStorage, "0", "cpu", elements, *more)


def tensor(size, stride, offset=0, elements=4, more=()):
    return Call(REBUILD, storage(elements, *more), offset, size, stride, False, OrderedDict())


def pickled(content):
    file = io.BytesIO()
    Pickler(file, 2).dump(content)
    return file.getvalue()


def archive(path, data, stored=16, compression=zipfile.ZIP_STORED):
    with zipfile.ZipFile(path, "w", compression) as file:
        file.writestr("a/data.pkl", data)
        file.writestr("a/data/0", bytes(stored))
        file.writestr("a/version", "3")
    return path


RAW = struct.pack("<q", 4) + bytes(16)


def old_format(path, content, keys=("0",), raw=RAW):
    facts = {"protocol_version": 1001, "little_endian": True, "type_sizes": {}}
    parts = [pickle.dumps(value, 2) for value in (0x1950A86A20F9469CFC6C, 1001, facts)]
    path.write_bytes(b"".join([*parts, pickled(content), pickle.dumps(list(keys), 2), raw]))
    return path


def shared(levels):
    content = {"w": torch.zeros(1)}
    for _ in range(levels):
        content = {"a": content, "b": content}
    return content


FUNCTION = b"\x80\x02}X\x01\x00\x00\x00wctorch._utils\n_rebuild_tensor_v2\nN}X\x0c\x00\x00\x00__defaults__K\x01\x85s\x86bs."
FILES = {
    "a stride of 0": lambda path: archive(path, pickled({"w": tensor((1 << 40,), (0,))})),
    "an offset outside": lambda path: archive(path, pickled({"w": tensor((4,), (1,), offset=100)})),
    "a negative stride": lambda path: archive(path, pickled({"w": tensor((4,), (-1,), offset=3)})),
    "a size outside": lambda path: archive(path, pickled({"w": tensor((1 << 28,), (1,))})),
    "a storage that is too short": lambda path: archive(path, pickled({"w": tensor((4,), (1,))}), stored=4),
    "an archive that expands": lambda path: archive(
        path, pickled({"w": tensor((1 << 27,), (1,), elements=1 << 27)}), 1 << 29, zipfile.ZIP_DEFLATED
    ),
    "a storage that is not in the old file": lambda path: old_format(path, {"w": tensor((9999,), (1,), 0, 9999, (None,))}, (), b""),
    "a deep tuple as a key": lambda path: archive(path, b"\x80\x02})" + b"\x85" * 10**6 + b"Ns."),
    "a deep tuple in the old file": lambda path: old_format(path, {}).write_bytes(
        path.read_bytes().replace(pickle.dumps({}, 2), b"\x80\x02})" + b"\x85" * 10**6 + b"Ns.")
    ),
    "a memo of 2**31": lambda path: archive(path, b"\x80\x02}r\xff\xff\xff\x7f."),
    "an extension": lambda path: archive(path, b"\x80\x02\x84\x01\x00\x00\x00."),
    "a function's defaults": lambda path: archive(path, FUNCTION),
    "dicts that share dicts": lambda path: torch.save(shared(40), path),
    "a sparse tensor": lambda path: torch.save({"w": torch.eye(2).to_sparse()}, path),
    "a tensor without memory": lambda path: torch.save({"w": torch.empty(2, device="meta")}, path),
}


@pytest.mark.parametrize("write", FILES.values(), ids=FILES.keys())
def test_what_a_file_claims_is_checked(write, tmp_path):
    path = tmp_path / "weights.pt"
    write(path)
    for read in (read_weights, read_tensors):
        with pytest.raises(UserError) as caught:
            read(path)
        assert "\n" not in str(caught.value)
    assert REBUILD.__defaults__ == DEFAULTS


def test_the_cause_is_named(tmp_path):
    with pytest.raises(UserError, match=r"a tensor of shape \(1099511627776,\) has more elements than the file"):
        read_weights(archive(tmp_path / "one.pt", pickled({"w": tensor((1 << 40,), (0,))})))
    FILES["an archive that expands"](tmp_path / "two.pt")
    with pytest.raises(UserError, match="bytes expand to more than"):
        read_weights(tmp_path / "two.pt")
    torch.save({"w": torch.quantize_per_tensor(torch.ones(2), 0.1, 0, torch.qint8)}, tmp_path / "three.pt")
    with pytest.raises(UserError, match="is quantised; save dense tensors"):
        read_weights(tmp_path / "three.pt")


def test_usual_files_pass(tmp_path):
    state = {"a": torch.arange(6.0).reshape(2, 3).T, "b": torch.tensor(3), "empty": torch.zeros(0), "n": {"x": (1, [2.0, None])}}
    state["tied"] = state["a"]
    for number, options in enumerate(({}, {"_use_new_zipfile_serialization": False})):
        path = tmp_path / f"{number}.pt"
        torch.save(state, path, **options)
        for read in (read_weights, read_tensors):
            assert torch.equal(read(path)["a"], state["a"])


def test_arrays_of_objects_and_archives_that_lie_are_refused(tmp_path):
    np.savez(tmp_path / "objects.npz", w=np.array([{"a": 1}], dtype=object))
    with pytest.raises(UserError, match="it contains an array of Python objects"):
        read_weights(tmp_path / "objects.npz")
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "<f8", "fortran_order": False, "shape": (1 << 45,)})
    for name, data in (("claims.npz", header.getvalue()), ("header.npz", b"\x93NUMPY\x01\x00\x04\x00{{{{"), ("none.npz", b"")):
        with zipfile.ZipFile(tmp_path / name, "w") as file:
            file.writestr("w.npy", data)
        with pytest.raises(UserError, match=r"cannot be read as weights"):
            read_weights(tmp_path / name)


def test_a_folder_entry_or_an_absolute_name_in_an_archive_writes_nothing(tmp_path):
    with zipfile.ZipFile(tmp_path / "names.pt", "w") as file:
        for name in ("../../escape", "/tmp/escape", "a/"):
            file.writestr(name, b"x")
    with pytest.raises(UserError, match="a zip archive of 3 files"):
        read_weights(tmp_path / "names.pt")
    assert not Path("/tmp/escape").exists()
