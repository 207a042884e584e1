"""Formats of weight files: the content decides, and what is not read is named with the way to convert it."""

from __future__ import annotations

import argparse
import datetime
import gzip
import json
import pickle
import re
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from sap_core.checkpoint import save_state
from sap_core.errors import UserError
from sap_core.models.pretrained import weights_file
from sap_core.models.weight_files import read_weights


def net():
    return nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2))


def save_zip(state, path):
    torch.save(state, path)


def save_legacy(state, path):
    torch.save(state, path, _use_new_zipfile_serialization=False)


def save_npz(state, path):
    with path.open("wb") as file:
        np.savez(file, **{name: value.numpy() for name, value in state.items()})


def save_compressed_npz(state, path):
    with path.open("wb") as file:
        np.savez_compressed(file, **{name: value.numpy() for name, value in state.items()})


def refused(path):
    """The message, which never advises to read a file without protection."""
    with pytest.raises(UserError) as caught:
        read_weights(path, "trainer.checkpoint")
    message = str(caught.value)
    assert message.startswith(f"trainer.checkpoint={path} ")
    assert not re.search("weights_only|safe_globals|allow_pickle", message)
    assert "\n" not in message
    return message


@pytest.mark.parametrize("save", [save_zip, save_legacy, save_file, save_npz, save_compressed_npz])
@pytest.mark.parametrize("name", ["net.pt", "net.safetensors", "net.npz", "net.ckpt", "net.pth.tar", "net.bin", "net"])
def test_the_content_decides_the_format(tmp_path, save, name):
    state = net().state_dict()
    save(state, tmp_path / name)
    found = read_weights(tmp_path / name)
    assert found.keys() == state.keys()
    assert all(torch.equal(found[key], value) for key, value in state.items())


CONTENTS = {
    b"": r"it is empty \(0 bytes\)",
    b"<!DOCTYPE html><html>": "it is a web page .* download the file itself",
    b"\n <HTML><body>Not found": "it is a web page",
    b'<?xml version="1.0"?><Error><Code>AccessDenied': "it is a web page",
    b"version https://git-lfs.github.com/spec/v1\noid sha256:1\nsize 9\n": "it is a pointer of Git LFS .* `git lfs pull`",
    gzip.compress(b"weights"): r"it is compressed; decompress it with `gzip -dc .*net.pt > ",
    b"BZh91AY": "`bzip2 -dc ",
    b"\xfd7zXZ\x00": "`xz -dc ",
    b"\x28\xb5\x2f\xfd": "`zstd -dc ",
    b"\x89HDF\r\n\x1a\n\x00": "it is an HDF5 file, as Keras writes it",
    b"\x08\x08\x12\x07pytorch\x1a\x052.1.0:": "it is an ONNX file",
    b"\x00\x00\x00" * 30 + b"\x57\xfb\x80\x8b\x24\x75\x47\xdb": "it is the index of a TensorFlow checkpoint",
    b"\x93NUMPY\x01\x00": "it is a single array of numpy",
    b"GGUF\x03\x00": "it is a GGUF file",
    b"\x00" * 257 + b"ustar\x00": "it is a tar archive; extract it with `tar -xf ",
    b"\x89PNG\r\n\x1a\n": "it is an image",
    b"lr: 0.1\nepochs: 3\n": "it is a text file that begins with 'lr: 0.1'",
    b'{"lr": 0.1}': "it is a JSON file without weights",
    pickle.dumps({"a": 1}): "it is a pickle that torch.save did not write",
    b"\x01\x02\x03\x04": "it is in no format that is read",
    b"PK\x03\x04 and then nothing": "its end is missing, or it is damaged",
}


@pytest.mark.parametrize(("content", "said"), CONTENTS.items(), ids=range(len(CONTENTS)))
def test_what_is_no_file_of_weights_is_named(tmp_path, content, said):
    path = tmp_path / "net.pt"
    path.write_bytes(content)
    assert re.search(said, refused(path), re.DOTALL)


@pytest.mark.parametrize("save", [save_zip, save_legacy, save_file, save_npz])
@pytest.mark.parametrize("share", [0.05, 0.5, 0.95])
def test_a_file_without_its_end_is_refused(tmp_path, save, share):
    path = tmp_path / "net.pt"
    save(net().state_dict(), path)
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    assert re.search("end is missing|damaged|in no format", refused(path))


class Settings:
    """What a training program may store beside its weights."""


OBJECTS = {
    "argparse.Namespace": argparse.Namespace(lr=0.1),
    "pathlib": Path("runs"),
    "numpy._core.multiarray.scalar": np.float64(0.5),
    "datetime.datetime": datetime.datetime(2024, 1, 1),
    r"[\w.]*test_weight_files.Settings": Settings(),
    "torch.nn.modules.container.Sequential": net(),
    "slice": slice(1, 2),
}


@pytest.mark.parametrize(("name", "content"), OBJECTS.items(), ids=OBJECTS)
@pytest.mark.parametrize("save", [save_zip, save_legacy])
@pytest.mark.filterwarnings("ignore:Couldn't retrieve source")
def test_objects_beside_weights_are_named_with_a_way_to_save_the_weights_alone(tmp_path, save, name, content):
    path = tmp_path / "run.ckpt"
    save({"state_dict": net().state_dict(), "more": content}, path)
    message = refused(path)
    assert re.search(rf"it contains an object of {name}[\w.]* beside its tensors", message)
    assert f"`torch.save(model.state_dict(), '{tmp_path / 'run.state_dict.pt'}')`" in message
    assert f"`sap-sweep convert {path} {tmp_path / 'run.weights.pt'}`" in message


@pytest.mark.parametrize("save", [save_zip, save_legacy])
@pytest.mark.filterwarnings("ignore:Couldn't retrieve source")
def test_a_whole_network_is_named_by_its_class(tmp_path, save):
    save(net(), tmp_path / "net.pt")
    message = refused(tmp_path / "net.pt")
    assert "it is a whole pickled object of torch.nn.modules.container.Sequential" in message
    model = net()
    exec(re.search(r"`(torch\.save\(.*?\))`", message)[1], {"torch": torch, "model": model})
    assert read_weights(tmp_path / "net.state_dict.pt").keys() == model.state_dict().keys()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.torch.jit")
def test_a_torchscript_archive_is_converted_by_the_snippet_in_its_message(tmp_path):
    model = net().eval()
    torch.jit.trace(model, torch.ones(1, 1, 4, 4)).save(tmp_path / "net.pt")
    message = refused(tmp_path / "net.pt")
    assert "it is a TorchScript archive" in message
    exec(re.search(r"`(import torch; .*?)`", message)[1], {})
    found = read_weights(tmp_path / "net.state_dict.pt")
    assert all(torch.equal(found[name], value) for name, value in model.state_dict().items() if "num_batches" not in name)


def test_other_archives_and_arrays_of_objects_are_named(tmp_path):
    for member, said in (("model.weights.h5", "it is a Keras model"), ("readme.txt", r"it is a zip archive of 1 files \(readme.txt\)")):
        with zipfile.ZipFile(tmp_path / member, "w") as archive:
            archive.writestr(member, "x")
        assert re.search(said, refused(tmp_path / member))
    with (tmp_path / "objects.npz").open("wb") as file:
        np.savez(file, a=np.array([{}, None], dtype=object))
    assert "it contains an array of Python objects" in refused(tmp_path / "objects.npz")


def test_of_a_folder_the_file_to_give_is_named(tmp_path):
    assert "it contains no file of weights" in refused(tmp_path)
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "pytorch_model.bin").write_bytes(b"x")
    assert f"give the file of weights inside: {tmp_path / 'pytorch_model.bin'}" in refused(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"x")
    assert f"give the file of weights inside: {tmp_path / 'model.safetensors'}" in refused(tmp_path)
    with pytest.raises(UserError, match=r"weights=.* is a folder; give the file of weights inside"):
        weights_file(str(tmp_path))


@pytest.mark.parametrize(("save", "suffix", "merged"), [(save_file, "safetensors", "merged.safetensors"), (save_zip, "bin", "merged.pt")])
def test_weights_in_several_files_are_merged_by_the_snippet_in_the_message(tmp_path, save, suffix, merged):
    state = net().state_dict()
    names = {name: f"model-0000{1 + index % 2}-of-00002.{suffix}" for index, name in enumerate(state)}
    for part in set(names.values()):
        save({name: value for name, value in state.items() if names[name] == part}, tmp_path / part)
    index = tmp_path / f"model.{suffix}.index.json"
    index.write_text(json.dumps({"metadata": {}, "weight_map": names}))
    for path in (tmp_path, index):
        message = refused_merge(path)
        exec(re.search(r"`(from pathlib .*)`", message)[1], {})
        assert read_weights(tmp_path / merged).keys() == state.keys()
        (tmp_path / merged).unlink()


def refused_merge(path):
    with pytest.raises(UserError) as caught:
        read_weights(path)
    return str(caught.value)


def test_a_corrected_network_that_differs_from_its_checksum_is_refused(tmp_path):
    """It may be given by another name, as `trainer.checkpoint`."""
    path = tmp_path / "mine.weights"
    save_state(path, {"layer.weight": torch.ones(3)})
    assert torch.equal(read_weights(path, "trainer.checkpoint")["layer.weight"], torch.ones(3))
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 0x40]))
    with pytest.raises(UserError, match="differs from its checksum"):
        read_weights(path, "trainer.checkpoint")
