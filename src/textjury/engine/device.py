"""The device at hand and the number format it is good at."""

from __future__ import annotations

import platform
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from textjury.errors import PlanError, Problem, shown

Kind = Literal["cpu", "cuda", "mps"]
DtypeName = Literal["float32", "bfloat16", "int8"]

_CPUINFO = Path("/proc/cpuinfo")
_CPU_BF16 = frozenset({"amx_bf16", "avx512_bf16"})
_CUDA_BF16 = (8, 0)  # compute capability of the first generation with bf16 matrix units


@dataclass(frozen=True, slots=True)
class Device:
    """Where models run; ``dtype`` is the one its matrix products are fastest in."""

    kind: Kind
    index: int
    dtype: DtypeName
    name: str
    threads: int

    @property
    def key(self) -> str:
        """What of the device can change a number beyond rounding: ``cpu/bfloat16``."""
        return f"{self.kind}/{self.dtype}"

    @property
    def torch_name(self) -> str:
        """The name torch knows it by: ``cpu``, ``cuda:0``, ``mps``."""
        return f"cuda:{self.index}" if self.kind == "cuda" else self.kind

    def with_dtype(self, dtype: str) -> Device:
        """The same device computing in ``dtype``; ``auto`` leaves its own choice."""
        if dtype == "auto":
            return self
        if dtype not in ("float32", "bfloat16", "int8"):
            raise ValueError(f"dtype {dtype!r}; expected auto, float32, bfloat16 or int8")
        return replace(self, dtype=dtype)  # type: ignore[arg-type]  # narrowed by the line above


def choose(setting: str) -> Device:
    """The device that ``auto``, ``cpu``, ``cuda``, ``cuda:<n>`` or ``mps`` names here.

    ``auto`` is the first CUDA device, else MPS, else the CPU. Raises PlanError for a device that is not
    there: there is no silent fallback.
    """
    kind, _, number = setting.partition(":")
    if kind == "auto":
        return _cuda(0) if _cuda_count() else _mps() if _has_mps() else _cpu()
    if kind == "cpu" and not number:
        return _cpu()
    if kind == "cuda":
        return _asked_cuda(setting, int(number) if number.isdigit() else 0)
    if kind == "mps" and not number:
        return _asked_mps()
    raise PlanError(Problem("device", f"unknown device {shown(setting)}", "one of auto, cpu, cuda, cuda:<n>, mps"))


def cpu_flags(path: Path = _CPUINFO) -> frozenset[str]:
    """Feature flags of the processor as Linux lists them; empty where there is no such list."""
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return frozenset()
    for line in lines:
        key, _, value = line.partition(":")
        if key.strip() == "flags":
            return frozenset(value.split())
    return frozenset()


def _cpu() -> Device:
    import torch

    onednn = bool(torch.backends.mkldnn.is_available())  # type: ignore[no-untyped-call]
    fast = onednn and bool(cpu_flags() & _CPU_BF16)
    return Device("cpu", 0, "bfloat16" if fast else "float32", _cpu_name(), torch.get_num_threads())


def _cpu_name(path: Path = _CPUINFO) -> str:
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor() or platform.machine())


def _cuda(index: int) -> Device:
    import torch

    fast = torch.cuda.get_device_capability(index) >= _CUDA_BF16
    name = torch.cuda.get_device_name(index)
    return Device("cuda", index, "bfloat16" if fast else "float32", name, torch.get_num_threads())


def _mps() -> Device:
    import torch

    return Device("mps", 0, "float32", _cpu_name(), torch.get_num_threads())


def _cuda_count() -> int:
    import torch

    return torch.cuda.device_count() if torch.cuda.is_available() else 0


def _has_mps() -> bool:
    import torch

    return bool(torch.backends.mps.is_available())


def _asked_cuda(setting: str, index: int) -> Device:
    count = _cuda_count()
    if count == 0:
        raise PlanError(
            Problem(
                "device",
                f"{shown(setting)} was asked for, but torch sees no CUDA device",
                "a CUDA driver and a CUDA build of torch",
                'install them, or set device = "auto" or "cpu"',
            )
        )
    if index >= count:
        raise PlanError(Problem("device", f"{shown(setting)}: no such device", f"cuda:0 to cuda:{count - 1} are there"))
    return _cuda(index)


def _asked_mps() -> Device:
    if not _has_mps():
        raise PlanError(
            Problem("device", "'mps' was asked for, but torch sees none", remedy='set device = "auto" or "cpu"')
        )
    return _mps()
