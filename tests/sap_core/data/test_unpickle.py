"""The restricted unpickler: numeric arrays are read, and nothing else is imported or called."""

import collections
import os
import pickle
import random

import numpy as np
import pytest

from sap_core.data.unpickle import ForbiddenGlobalError, load_arrays

PLAIN = {"data": np.arange(12, dtype=np.uint8).reshape(2, 6), "labels": [1, 2], "b": b"bytes \xff", "text": "ä", "n": [None, 1.5, 10**30]}
ARRAYS = [
    np.arange(6.0).reshape(2, 3), np.asfortranarray(np.arange(6).reshape(2, 3)), np.arange(3, dtype=">i4"), np.ones((3, 1), np.float32),
    np.array([True, False]), np.array(5),
]  # fmt: skip


class Runs:
    def __init__(self, function, *arguments):
        self.function, self.arguments = function, arguments

    def __reduce__(self):
        return self.function, self.arguments


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_dicts_of_arrays_come_out_as_they_went_in(protocol):
    if protocol >= 2:  # older protocols do not store bytes and arrays as numpy does
        found = load_arrays(pickle.dumps(PLAIN, protocol))
        np.testing.assert_array_equal(found.pop("data"), PLAIN["data"])
        assert found == {key: value for key, value in PLAIN.items() if key != "data"}
    plain = {"labels": [1, 2], "text": "ä"}
    assert load_arrays(pickle.dumps(plain, protocol)) == plain


@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
def test_shape_type_order_and_byte_order_are_kept(protocol):
    for array in ARRAYS:
        found = load_arrays(pickle.dumps(array, protocol))
        np.testing.assert_array_equal(found, array)
        usual = pickle.loads(pickle.dumps(array, protocol))
        assert (found.dtype, found.shape, found.flags.f_contiguous) == (usual.dtype, array.shape, array.flags.f_contiguous)
    assert np.dtype("i4").isnative, "a stored byte order changes no type of this process"


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("function", [os.system, eval, collections.OrderedDict, __import__])
def test_any_other_name_is_refused_and_not_run(protocol, function, tmp_path):
    mark = tmp_path / "ran"
    argument = {os.system: f"touch {mark}", eval: f"open({str(mark)!r}, 'w')", __import__: "antigravity"}.get(function)
    data = pickle.dumps({**({} if protocol < 2 else PLAIN), "more": Runs(function, *filter(None, [argument]))}, protocol)
    with pytest.raises(ForbiddenGlobalError, match=function.__name__):
        load_arrays(data)
    assert not mark.exists()


DEVIOUS = {
    "name from the memo": b"\x80\x04\x8c\x02os\x94\x8c\x06system\x9400h\x00h\x01\x93.",
    "text popped in between": b"\x80\x04\x8c\x02os\x8c\x06system\x8c\x05numpy\x8c\x07ndarray00\x93.",
    "name put under another number": b"\x80\x04\x8c\x05numpyq\x070\x8c\x02osq\x070\x8c\x07ndarrayq\x080h\x07h\x08\x93.",
    "duplicated text": b"\x80\x04\x8c\x05posix2\x93.",
    "text from a concatenation": b"\x80\x04\x8c\x05numpy(\x8c\x02xxl\x93.",
    "array class called": b"\x80\x02cnumpy\nndarray\nK\x01\x85U\x01OU\x08pointers\x87R.",
    "array class from the memo": b"\x80\x02cnumpy\nndarray\nq\x000h\x00)R.",
    "array class made new": b"\x80\x02cnumpy\nndarray\n)\x81.",
    "call of a result": b"\x80\x02cnumpy\ndtype\nU\x02u1\x85R)R.",
    "type of objects": b"\x80\x02cnumpy\ndtype\nU\x01O\x85R.",
    "type of records": b"\x80\x02cnumpy\ndtype\nU\x05O,i4\x85R.",
    "type from a class": b"\x80\x02cnumpy\ndtype\ncnumpy\nndarray\n\x85R.",
    "array of objects from bytes": b"\x80\x02cnumpy.core.numeric\n_frombuffer\n(U\x08pointersU\x01OK\x01\x85U\x01CtR.",
    "another codec": b"\x80\x02c_codecs\nencode\nU\x01xU\x03zip\x86R.",
    "INST": b"(ios\nsystem\n.",
    "OBJ": b"(cos\nsystem\no.",
    "extension": b"\x80\x02\x82\x01.",
    "persistent": b"Pname\n.",
    "dotted": b"\x80\x04\x8c\x05numpy\x8c\x10ndarray.__reduce\x93.",
}


@pytest.mark.parametrize("data", DEVIOUS.values(), ids=DEVIOUS.keys())
def test_devious_ways_to_a_name_are_refused(data):
    with pytest.raises((ForbiddenGlobalError, ValueError)):
        load_arrays(data)


def test_mutated_pickles_load_plain_values_or_are_refused():
    rng = random.Random(3)
    seeds = [pickle.dumps(value, protocol) for protocol in range(2, 6) for value in (PLAIN, Runs(os.getpid), [Runs(eval, "1")])]
    outcomes = collections.Counter()
    for _ in range(2_000):
        data = bytearray(rng.choice(seeds) if rng.random() < 0.5 else rng.choice(list(DEVIOUS.values())))
        for _ in range(rng.randint(1, 3)):
            data[rng.randrange(len(data))] = rng.choice(b"\x93\x94ch20q.(\x8c\x8f\x85R\x00\x01\x02" + bytes(range(256))[:8])
        try:
            load_arrays(bytes(data))
            outcomes["loaded"] += 1
        except (ForbiddenGlobalError, ValueError) as error:
            outcomes[type(error)] += 1
    assert len(outcomes) == 3


@pytest.mark.parametrize("data", [b"", b"garbage", b"\x80\x04", pickle.dumps(PLAIN)[:-1], bytes(range(256)), b"\x80\x04\x95\xff"])
def test_bytes_that_are_no_pickle_are_refused(data):
    with pytest.raises(ValueError, match="not a complete pickle"):
        load_arrays(data)
