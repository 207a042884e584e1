"""The restricted unpickler and crafted instructions: what would crash the interpreter, fill the memory or change a function is refused."""

from __future__ import annotations

import pickle
import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sap_core.data import unpickle
from sap_core.data.unpickle import ForbiddenGlobalError, load_arrays

DTYPE = b"\x80\x02cnumpy\ndtype\nU\x02i8\x85R"
BYTES = b"\x80\x05B"  # BINBYTES, and four bytes of length


def state(*values: object) -> bytes:
    """A tuple as instructions, without PROTO and STOP."""
    return pickle.dumps(values, 2)[2:-1]


BOMBS = {
    "flags of a dtype cleared": DTYPE + state(3, "|", None, None, None, -1, -1, 0x3F) + b"b.",
    "fields of a dtype": DTYPE + state(3, "|", None, ("a",), {"a": ("O", 0)}, 8, 8, 63) + b"b.",
    "a subarray of a dtype": DTYPE + state(3, "|", ("O", (1,)), None, None, 8, 8, 63) + b"b.",
    "a dtype alone": DTYPE + b".",
    "a dtype as state of itself": DTYPE + b"2b.",
    "defaults of a function": b"\x80\x02c_codecs\nencode\nN}U\x0c__defaults__U\x01x\x85s\x86b.",
    "attributes of a function": b"\x80\x02c_codecs\nencode\n}U\x04_callNsb.",
    "an array without a type": b"\x80\x02cnumpy.core.multiarray\n_reconstruct\n)R" + state(1, (1,), "O", False, b"x" * 8) + b"b.",
    "more bytes than the file": b"\x80\x02cnumpy.core.multiarray\n_reconstruct\n)R(K\x01(J\xff\xff\xff\x7ft" + DTYPE[2:] + b"\x89U\x00tb.",
    "a memo of 2**31": b"\x80\x02Nr\xff\xff\xff\x7f.",
    "a memo in text": b"Np99999999\n.",
    "bytes of 2**31": BYTES + struct.pack("<I", 2**31) + b"x.",
    "bytes of 2**62": b"\x80\x04\x8e" + struct.pack("<Q", 2**62) + b"x.",
    "a text of 2**62": b"\x80\x04\x8d" + struct.pack("<Q", 2**62) + b"x.",
    "a number of 2**31 bytes": b"\x80\x02\x8b" + struct.pack("<i", 2**31 - 1) + b"x.",
    "a number of a million digits": b"L" + b"9" * 10**6 + b"L\n.",
    "a frame of 2**63": b"\x80\x04\x95" + struct.pack("<Q", 2**63) + b"N.",
    "a deep tuple as a key": b"\x80\x02})" + b"\x85" * 10**6 + b"Ns.",
    "a deep list": b"\x80\x02" + b"]" * 5000 + b"a" * 4999 + b".",
    "a list in itself": b"\x80\x02]q\x00h\x00a.",
    "a deep dict": b"\x80\x02" + b"}K\x01" * 5000 + b"N" + b"s" * 5000 + b".",
    "a chain of calls": DTYPE + b")R" * 10**5 + b".",
    "an extension": b"\x80\x02\x84\x01\x00\x00\x00.",
    "a persistent id": b"\x80\x02K\x01Q.",
    "a new object": b"\x80\x02cnumpy\nndarray\n)\x81.",
    "a new object with names": b"\x80\x04cnumpy\nndarray\n)}\x92.",
    "a set": b"\x80\x04\x8f(K\x01\x90.",
    "a buffer out of band": b"\x80\x05\x97.",
}


@pytest.mark.parametrize("data", BOMBS.values(), ids=BOMBS.keys())
def test_crafted_instructions_are_refused(data):
    with pytest.raises((ForbiddenGlobalError, ValueError)):
        load_arrays(data)


def test_shared_lists_do_not_multiply_and_shared_arrays_are_counted():
    value: list[object] = [1]
    for _ in range(15):
        value = [value, value]
    loaded = load_arrays(pickle.dumps(value, 2))
    assert isinstance(loaded, list)
    assert loaded[0] is loaded[1]
    array = np.zeros(1000, np.uint8)
    assert len(load_arrays(pickle.dumps([array] * 50, 2))) == 50
    # The same bytes under many arrays: each call makes another array.
    head = b"\x80\x02cnumpy.core.numeric\n_frombuffer\nq\x00" + DTYPE[2:] + b"q\x01B\x40\x1f\x00\x00" + b"x" * 8000 + b"q\x02](0"[:-1]
    body = b"h\x00(h\x02h\x01M\xe8\x03\x85U\x01CtR" * 300
    with pytest.raises(ValueError, match="more bytes than the file"):
        load_arrays(head.replace(b"](", b"](") + body + b"e.")


def test_nothing_of_a_pickle_stays_in_this_process():
    before = {name: (found, getattr(found, "__defaults__", None)) for name, found in vars(unpickle).items() if callable(found)}
    test = [bomb for name, bomb in BOMBS.items() if "function" in name or "dtype" in name]
    for data in test:
        with pytest.raises((ForbiddenGlobalError, ValueError)):
            load_arrays(data)
    assert before == {name: (found, getattr(found, "__defaults__", None)) for name, found in vars(unpickle).items() if callable(found)}
    assert np.dtype("i8").flags == 0
    assert np.dtype("i8").isnative


PIECES = st.sampled_from(
    [
        DTYPE[2:], state(3, "<", None, None, None, -1, -1, 0), state(3, "|", None, None, None, -1, -1, 63),
        b"b", b"R", b")", b"(", b"t", b"0", b"2", b"]", b"}", b"a", b"s", b"e", b"u", b"\x85", b"\x86", b"\x87",
        b"N", b"K\x01", b"U\x01x", b"B\x08\x00\x00\x00pointers", b"q\x00", b"h\x00", b"\x93", b"\x94", b"o", b"\x81", b"\x82\x01", b"Q",
        b"cnumpy.core.multiarray\n_reconstruct\n", b"cnumpy.core.numeric\n_frombuffer\n", b"cnumpy\nndarray\n", b"c_codecs\nencode\n",
        b"cposix\nsystem\n", b"K\x01K\x01\x85" + DTYPE[2:] + b"\x89B\x08\x00\x00\x00pointersK\x05",
    ]
)  # fmt: skip


@settings(max_examples=500, deadline=None)
@given(st.lists(PIECES, max_size=30))
def test_any_order_of_instructions_gives_plain_data_or_is_refused(pieces):
    try:
        found = load_arrays(b"\x80\x02" + b"".join(pieces) + b".")
    except (ForbiddenGlobalError, ValueError):
        return
    if isinstance(found, np.ndarray):
        assert found.dtype.kind in "biuf"
        found = found.tolist()
    repr(found)
