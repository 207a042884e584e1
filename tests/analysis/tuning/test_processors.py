"""The note on the instruction sets of processors."""

import pandas as pd

from analysis.tuning.processors import processor_note


def rows(*capabilities, device="cpu", reproducible=False, status="ok"):
    return pd.DataFrame(
        {
            "run_id": [str(number) for number in range(len(capabilities))], "device": device, "status": status,
            "cpu_capability": list(capabilities), "reproducible": reproducible,
        },
    )  # fmt: skip


def test_one_processor_is_named():
    assert processor_note(rows("x86_64 AVX512", "x86_64 AVX512")) == ["Instruction sets of the processor: x86_64 AVX512."]
    assert processor_note(rows("x86_64 AVX2", reproducible=True)) == [
        "Instruction sets of the processor: x86_64 AVX2 (backend.reproducible=true)."
    ]


def test_pooled_processors_are_counted_in_one_line():
    mixed = rows("x86_64 AVX512", "x86_64 AVX2", None, "x86_64 AVX2")
    assert processor_note(pd.concat([mixed, mixed])) == [
        "The rows mix instruction sets, which round differently: not recorded (1 row); x86_64 AVX2 (2 rows); x86_64 AVX512 (1 row)."
    ]


def test_rows_that_record_none_and_rows_of_other_devices_have_no_note():
    assert processor_note(rows(None, None)) == []
    assert processor_note(rows("x86_64 AVX512", device="NVIDIA H200")) == []
    assert processor_note(rows("x86_64 AVX512", status="failed")) == []
    assert processor_note(rows()) == []
