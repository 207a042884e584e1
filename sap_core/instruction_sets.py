"""The instruction sets that torch and its libraries compute with on the CPU, which decide the last bits of a result.

torch's own kernels, oneDNN (convolutions) and MKL (matrix products, LAPACK) each choose code for the processor when they are first used,
and read environment variables at that moment. docs/reproducibility.md has the measurements. Loads torch only to describe a process.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping
from pathlib import Path

from sap_core.errors import UserError

REPRODUCIBLE: Mapping[str, str] = {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2", "MKL_CBWR": "COMPATIBLE"}
"""Environment variables under which every x86-64 processor with AVX2 computes the same bits, with one version of torch."""

_LEVELS = ("SSE4.1", "AVX", "AVX2", "AVX512")
_ONEDNN_LEVELS = {"SSE41": "SSE4.1", "AVX": "AVX", "AVX2": "AVX2", "AVX2_VNNI": "AVX2", "AVX2_VNNI_2": "AVX2"}
"""Values of ONEDNN_MAX_CPU_ISA below AVX512; all higher ones compute float32 alike."""


def use_reproducible() -> None:
    """Set the variables of `REPRODUCIBLE` for this process and those that it starts. Only effective before torch's first operation."""
    os.environ.update(REPRODUCIBLE)


def is_reproducible() -> bool:
    """Whether this process computes with the instruction sets of `REPRODUCIBLE`."""
    import torch

    # The variable of torch has no effect after its first operation, so torch itself is asked.
    return all(os.environ.get(name) == value for name, value in REPRODUCIBLE.items()) and torch.backends.cpu.get_cpu_capability() == "AVX2"


def check_reproducible() -> None:
    """Check that this process computes with the instruction sets of `REPRODUCIBLE`.

    Raises:
        UserError: it does not, or its processor cannot.
    """
    check_processor()
    if not is_reproducible():
        variables = " ".join(f"{name}={value}" for name, value in REPRODUCIBLE.items())
        raise UserError(
            f"the job is of a sweep with backend.reproducible=true, and this process computes with {cpu_capability()}; start the program "
            f"with the environment variables {variables}"
        )


def check_processor() -> None:
    """Check that `REPRODUCIBLE` can be used on this machine.

    Raises:
        UserError: it is not an x86-64 processor with AVX2, on which torch would end with an illegal instruction.
    """
    import torch

    machine = platform.machine()
    if _architecture(machine) != "x86_64" or not torch.cpu._is_avx2_supported():
        raise UserError(
            f"backend.reproducible=true needs an x86-64 processor with AVX2, which this one ({machine}) is not; "
            "use backend.reproducible=false"
        )


def cpu_capability() -> str:
    """The instruction set of each library, as `x86_64 AVX512`, or `x86_64, torch AVX2, oneDNN AVX2, MKL COMPATIBLE` if they differ.

    MKL's code on processors of other vendors than Intel is its own, so their vendor is named. Equal texts mean equal bits, for one version
    of torch and one number of threads.
    """
    import torch

    machine, libraries = _architecture(platform.machine()), {"torch": torch.backends.cpu.get_cpu_capability()}
    if machine == "x86_64":
        hardware = _hardware()
        if torch.backends.mkldnn.is_available():
            libraries["oneDNN"] = _onednn(hardware)
        if torch.backends.mkl.is_available():
            libraries["MKL"] = _mkl(hardware)
    values = set(libraries.values())
    if len(values) == 1:
        return f"{machine} {values.pop()}"
    return f"{machine}, " + ", ".join(f"{library} {value}" for library, value in libraries.items())


def _architecture(machine: str) -> str:
    """One name for what systems call x86_64, AMD64 and amd64."""
    return "x86_64" if machine.lower() in ("x86_64", "amd64") else machine


def _hardware() -> str:
    """The highest of `_LEVELS` that the processor has, as torch sees it."""
    import torch

    return "AVX512" if torch.cpu._is_avx512_supported() else "AVX2" if torch.cpu._is_avx2_supported() else "SSE4.1"


def _onednn(hardware: str) -> str:
    # DNNL_MAX_CPU_ISA is the older name, which oneDNN reads if the newer one is absent.
    limit = os.environ.get("ONEDNN_MAX_CPU_ISA") or os.environ.get("DNNL_MAX_CPU_ISA") or ""
    return min(hardware, _ONEDNN_LEVELS.get(limit.upper(), hardware), key=_LEVELS.index)


def _mkl(hardware: str) -> str:
    mode = os.environ.get("MKL_CBWR", "").upper()
    # OFF and AUTO leave the choice to MKL, as an unset variable does.
    if mode not in ("", "OFF", "AUTO"):
        return mode
    level = os.environ.get("MKL_ENABLE_INSTRUCTIONS", "").upper() or hardware
    vendor = _vendor()
    return level if vendor in (None, "GenuineIntel") else f"{level} ({vendor})"


def _vendor() -> str | None:
    """The processor's vendor; None where the system does not say."""
    try:
        with Path("/proc/cpuinfo").open(encoding="utf-8", errors="replace") as file:
            return next((line.partition(":")[2].strip() for line in file if line.startswith("vendor_id")), None)
    except OSError:
        return None
