import collections
import contextlib
import io
import os
import pickle
import random

import numpy as np
import pytest

from sap_core.data.pickle_scan import ALLOWED, foreign_name

PLAIN = {"data": np.arange(12, dtype=np.uint8).reshape(2, 6), "labels": [1, 2], "b": b"bytes \xff", "text": "ä", "n": [None, 1.5, 10**30]}


class Runs:
    def __init__(self, function, *arguments):
        self.function, self.arguments = function, arguments

    def __reduce__(self):
        return self.function, self.arguments


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_dicts_of_arrays_pass_in_every_protocol(protocol):
    value = PLAIN if protocol >= 2 else {"labels": [1, 2], "text": "ä"}
    assert foreign_name(pickle.dumps(value, protocol)) is None


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("function", [os.system, eval, collections.OrderedDict, __import__])
def test_any_other_name_is_found_in_every_protocol(protocol, function, tmp_path):
    arguments = (f"touch {tmp_path / 'ran'}",) if function is os.system else ()
    data = pickle.dumps({**({} if protocol < 2 else PLAIN), "more": Runs(function, *arguments)}, protocol)
    assert function.__name__ in foreign_name(data)
    assert not (tmp_path / "ran").exists()


DEVIOUS = {
    "name from the memo": b"\x80\x04\x8c\x02os\x94\x8c\x06system\x9400h\x00h\x01\x93.",
    "text popped in between": b"\x80\x04\x8c\x02os\x8c\x06system\x8c\x05numpy\x8c\x07ndarray00\x93.",
    "name put under another number": b"\x80\x04\x8c\x05numpyq\x070\x8c\x02osq\x070\x8c\x07ndarrayq\x080h\x07h\x08\x93.",
    "duplicated text": b"\x80\x04\x8c\x05posix2\x93.",
    "text from a concatenation": b"\x80\x04\x8c\x05numpy(\x8c\x02xxl\x93.",
    "array class called": b"\x80\x02cnumpy\nndarray\nK\x01\x85U\x01OU\x08pointers\x87R.",
    "array class called behind another": b"\x80\x02cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x01\x85U\x01O\x86R.",
    "array class from the memo": b"\x80\x02cnumpy\nndarray\nq\x000h\x00)R.",
    "array class made new": b"\x80\x02cnumpy\nndarray\n)\x81.",
    "call of a result": b"\x80\x02cnumpy\ndtype\nU\x02u1\x85R)R.",
    "changed function": b"\x80\x02cnumpy.core.multiarray\n_reconstruct\n}b.",
    "INST": b"(ios\nsystem\n.",
    "extension": b"\x80\x02\x82\x01.",
    "persistent": b"Pname\n.",
    "dotted": b"\x80\x04\x8c\x05numpy\x8c\x10ndarray.__reduce\x93.",
}


@pytest.mark.parametrize("data", DEVIOUS.values(), ids=DEVIOUS.keys())
def test_devious_ways_to_a_name_are_refused(data):
    assert foreign_name(data) is not None


class Recorder(pickle.Unpickler):
    """An independent judge: what does unpickling really ask for?"""

    def find_class(self, module, name):
        self.asked.append(f"{module} {name}")
        raise pickle.UnpicklingError("refused")


def test_whatever_the_unpickler_asks_for_the_scan_has_seen():
    """Random mutations of real pickles: if the scan finds nothing, the first import that unpickling attempts is an allowed one."""
    rng = random.Random(3)
    seeds = [pickle.dumps(value, protocol) for protocol in range(2, 6) for value in (PLAIN, Runs(os.system, "true"), [Runs(eval, "1")])]
    judged = 0
    for _ in range(4_000):
        data = bytearray(rng.choice(seeds) if rng.random() < 0.5 else rng.choice(list(DEVIOUS.values())))
        for _ in range(rng.randint(1, 3)):
            data[rng.randrange(len(data))] = rng.choice(b"\x93\x94ch20q.(\x8c\x8f\x85R\x00\x01\x02" + bytes(range(256))[:8])
        try:
            clean = foreign_name(bytes(data)) is None
        except ValueError:
            continue
        if clean:
            judge = Recorder(io.BytesIO(bytes(data)), encoding="latin1")
            judge.asked = []
            with contextlib.suppress(Exception):
                judge.load()
            assert set(judge.asked) <= ALLOWED
            judged += 1
    assert judged > 100


@pytest.mark.parametrize("data", [b"", b"garbage", b"\x80\x04", pickle.dumps(PLAIN)[:-1], bytes(range(256)), b"\x80\x04\x95\xff"])
def test_no_pickle_at_all_is_said(data):
    with pytest.raises(ValueError, match="not a complete pickle"):
        foreign_name(data)
