"""The note under tables that names the instruction sets of the processors on which rows were computed."""

from __future__ import annotations

import pandas as pd

from analysis.store.labels import counted

_UNKNOWN = "not recorded"


def processor_note(rows: pd.DataFrame) -> list[str]:
    """One sentence on the instruction sets of the rows that were computed on processors; none if no row records them."""
    computed = rows[(rows["device"] == "cpu") & (rows["status"] == "ok")]
    if computed["cpu_capability"].isna().all():
        return []
    # The rows of a baseline occur in several searches.
    counts = computed.drop_duplicates("run_id")["cpu_capability"].fillna(_UNKNOWN).value_counts().sort_index()
    if len(counts) > 1:
        parts = "; ".join(f"{name} ({counted(int(count), 'row')})" for name, count in counts.items())
        return [f"The rows mix instruction sets, which round differently: {parts}."]
    reproducible = computed["reproducible"].fillna(value=False).astype(bool).all()
    return [f"Instruction sets of the processor: {counts.index[0]}{' (backend.reproducible=true)' if reproducible else ''}."]
