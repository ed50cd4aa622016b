"""Which device is chosen, and its dtype."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from textjury.engine import device as room
from textjury.engine.device import Device, choose
from textjury.errors import PlanError


def without_accelerators(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)


def with_cuda(monkeypatch: pytest.MonkeyPatch, *, count: int, capability: tuple[int, int]) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _index: capability)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda index: f"GPU {index}")


def cpuinfo(tmp_path: Path, flags: str) -> Path:
    path = tmp_path / "cpuinfo"
    path.write_text(f"processor\t: 0\nmodel name\t: Some CPU\nflags\t\t: {flags}\n\n", encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("flags", "dtype"),
    [
        ("fpu sse avx512f avx512_bf16", "bfloat16"),
        ("fpu amx_bf16 amx_tile", "bfloat16"),
        ("fpu avx2", "float32"),
    ],
)
def test_choose_gives_bf16_on_a_cpu_when_it_has_the_instructions(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, flags: str, dtype: str
) -> None:
    listed = room.cpu_flags(cpuinfo(tmp_path, flags))
    assert listed == frozenset(flags.split())
    monkeypatch.setattr(room, "cpu_flags", lambda: listed)
    chosen = choose("cpu")
    assert (chosen.kind, chosen.dtype) == ("cpu", dtype)
    assert chosen.key == f"cpu/{dtype}"


def test_cpu_flags_is_empty_when_there_is_no_list(tmp_path: Path) -> None:
    assert room.cpu_flags(tmp_path / "none") == frozenset()
    (tmp_path / "arm").write_text("Features : fp asimd bf16\n", encoding="utf-8")
    assert room.cpu_flags(tmp_path / "arm") == frozenset()


def test_choose_auto_takes_the_cpu_when_there_is_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    without_accelerators(monkeypatch)
    assert choose("auto").kind == "cpu"


@pytest.mark.parametrize(("capability", "dtype"), [((9, 0), "bfloat16"), ((8, 0), "bfloat16"), ((7, 5), "float32")])
def test_choose_auto_takes_cuda_when_it_is_there(
    monkeypatch: pytest.MonkeyPatch, capability: tuple[int, int], dtype: str
) -> None:
    with_cuda(monkeypatch, count=2, capability=capability)
    assert choose("auto") == Device("cuda", 0, dtype, "GPU 0", torch.get_num_threads())  # type: ignore[arg-type]
    assert choose("cuda:1").torch_name == "cuda:1"


def test_choose_refuses_cuda_when_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    without_accelerators(monkeypatch)
    with pytest.raises(PlanError, match=r'sees no CUDA device.*set device = "auto" or "cpu"'):
        choose("cuda")


def test_choose_refuses_a_number_when_there_are_fewer_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    with_cuda(monkeypatch, count=2, capability=(9, 0))
    with pytest.raises(PlanError, match=r"'cuda:5': no such device; cuda:0 to cuda:1 are there"):
        choose("cuda:5")


def test_choose_refuses_mps_when_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    without_accelerators(monkeypatch)
    with pytest.raises(PlanError, match="'mps' was asked for"):
        choose("mps")


def test_choose_refuses_a_name_when_it_is_unknown() -> None:
    with pytest.raises(PlanError, match="unknown device 'tpu'"):
        choose("tpu")


def test_with_dtype_keeps_the_device_when_asked_for_auto(cpu: Device) -> None:
    assert cpu.with_dtype("auto") is cpu
    assert cpu.with_dtype("bfloat16").key == "cpu/bfloat16"
    with pytest.raises(ValueError, match="dtype 'float16'"):
        cpu.with_dtype("float16")
