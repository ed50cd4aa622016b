"""How torch's threads wait for each other is decided before torch is there."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

SHOW = "import sys, os; import textjury.engine.models; print('torch' in sys.modules, os.environ['OMP_WAIT_POLICY'])"


@pytest.mark.parametrize(("given", "expected"), [({}, "passive"), ({"OMP_WAIT_POLICY": "active"}, "active")])
def test_engine_lets_threads_sleep_and_loads_no_torch_when_imported(given: dict[str, str], expected: str) -> None:
    environment = {k: v for k, v in os.environ.items() if k != "OMP_WAIT_POLICY"} | given
    shown = subprocess.run([sys.executable, "-c", SHOW], env=environment, capture_output=True, text=True, check=True)
    assert shown.stdout.split() == ["False", expected]
