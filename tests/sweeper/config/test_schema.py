"""Values of the right type that a sweep cannot use."""

from __future__ import annotations

import pytest

from sap_core.errors import UserError
from sweeper.config.schema import BackendConfig, Config, DebugConfig, PathsConfig, check_integers, check_values


@pytest.mark.parametrize(
    ("config", "said"),
    [
        (Config(seeds=[1, 1]), r"seeds=\[1, 1\] contains a value twice"),
        (Config(seeds=[]), r"seeds=\[\] is empty; list at least one seed"),
        (Config(seeds=[1], methods=["sap", "sap"]), r"methods=\['sap', 'sap'\] contains a value twice"),
        (Config(seeds=[1], name="../x"), r"name='\.\./x' is also the name of a folder below results"),
        (Config(seeds=[1], name=""), "name='' is also the name of a folder"),
        (Config(seeds=[1], backend=BackendConfig(name="dask")), "unknown name 'dask' in backend; allowed: auto, ray, local"),
        (Config(seeds=[1], backend=BackendConfig(workers=0)), r"backend\.workers=0 is too small; it must be at least 1"),
        (Config(seeds=[1], backend=BackendConfig(threads=0)), r"backend\.threads=0 is too small"),
        (Config(seeds=[1], backend=BackendConfig(gpus_per_job=float("nan"))), r"backend\.gpus_per_job=nan is too small"),
        (Config(seeds=[1], backend=BackendConfig(timeout_seconds=0)), r"backend\.timeout_seconds=0 must be above 0"),
        (Config(seeds=[1], backend=BackendConfig(start_seconds=0)), r"backend\.start_seconds=0 must be above 0"),
        (Config(seeds=[1], backend=BackendConfig("ray", device="mps")), r"backend\.device=mps .* set backend=local"),
        (Config(seeds=[1], backend=BackendConfig(address="head:1", device="mps")), r"backend\.device=mps .* set backend=local"),
        (Config(seeds=[1], backend=BackendConfig(flops_per_second=-1)), r"backend\.flops_per_second=-1 must be above 0"),
        (Config(seeds=[1], backend=BackendConfig(device="gpu")), "backend.device='gpu' is not a device; allowed: cpu, cuda, cuda:N, mps"),
        (
            Config(seeds=[1], paths=PathsConfig(artifacts=" ")),
            r"paths\.artifacts=' ' is no path \(an unset variable of the shell is empty\)",
        ),
        (Config(seeds=[1], paths=PathsConfig(results="")), r"paths\.results='' is no path"),
        (Config(seeds=[1], export="a\0b"), r"export='a\\x00b' is no path"),
        (Config(seeds=[1], retry="all"), "unknown retry 'all'; allowed: failed"),
        (Config(seeds=[1], debug=DebugConfig(settings=0)), r"debug\.settings=0 is too small"),
        (Config(seeds=[1], debug=DebugConfig(images=3)), r"debug\.images=3 is too small; it must be at least 50"),
    ],
)
def test_values_out_of_range_are_named(config, said):
    with pytest.raises(UserError, match=said):
        check_values(config)


def test_what_is_shipped_passes():
    check_values(
        Config(name="table-1_b.2", seeds=[1, 2], methods=["sap", "scrub@grid_b"], backend=BackendConfig(device="cuda:1", workers=3))
    )


def test_whole_numbers_that_no_column_can_hold_are_named():
    check_integers({"seeds": [2**63 - 1, -(2**63)], "name": "9" * 30, "rate": 1e300})
    with pytest.raises(UserError, match=r"trainer\.epochs=9223372036854775808 is too large; whole numbers are at most 2\*\*63 - 1"):
        check_integers({"trainer": {"epochs": 2**63}})
    with pytest.raises(UserError, match="seeds=-1"):
        check_integers({"seeds": [1, -(10**20)]})
