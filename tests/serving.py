"""``textjury serve`` in a project folder of its own, and its Prefect API: for tests of the flows and of the browser."""

from __future__ import annotations

import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
PATIENCE = 240.0  # of a busy machine with two cores
FINAL = {"COMPLETED", "FAILED", "CRASHED", "CANCELLED"}


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def environment(**more: str) -> dict[str, str]:
    """This process's, without anything of Prefect's."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith("PREFECT")}
    return {**kept, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "PREFECT_RUNNER_POLL_FREQUENCY": "1", **more}


class Service:
    """A serving process, its server and its runs."""

    def __init__(self, folder: Path):
        self.folder, self.port = folder, free_port()
        self.log = folder / "serve.log"
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Returns when the forms are there."""
        command = [sys.executable, "-m", "flows.serve", "--port", str(self.port)]
        with self.log.open("ab") as log:
            began = log.tell()
            self.process = subprocess.Popen(command, cwd=self.folder, env=environment(), stdout=log, stderr=log)
        self.wait_for(lambda: b"Ctrl-C stops it" in self.log.read_bytes()[began:] or not self.is_up)
        assert self.is_up, self.log.read_text("utf-8")[-3000:]

    @property
    def is_up(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def stop(self) -> int:
        """The exit code after SIGTERM."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(PATIENCE)

    def kill(self) -> None:
        """SIGKILL for the serving process, its server and every flow process, as a power cut would."""
        assert self.process is not None
        family = [self.process.pid, *_children(self.process.pid)]
        for pid in family:
            os.kill(pid, signal.SIGKILL)
        self.process.wait()
        self.wait_for(lambda: not any(Path(f"/proc/{pid}").exists() for pid in family))

    def api(self, path: str, body: Any = None, method: str = "") -> Any:
        """The answer as Python; HTTPError where the server refuses."""
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(
            f"{self.url}/api{path}", data, {"Content-Type": "application/json"}, method=method or None
        )
        while True:
            try:
                with urllib.request.urlopen(request, timeout=60) as answer:
                    said = answer.read()
                    return json.loads(said) if said else None
            except urllib.error.HTTPError as error:
                if error.code != 503:  # SQLite was busy: Prefect's own client tries again too
                    raise
            time.sleep(0.5)

    def deployment(self, name: str) -> dict[str, Any]:
        found: dict[str, Any] = self.api(f"/deployments/name/{name}/{name}")
        return found

    def submit(self, name: str, **parameters: Any) -> str:
        """The id of a new run, as the form would start it."""
        body = {"parameters": parameters, "state": {"type": "SCHEDULED"}}
        return str(self.api(f"/deployments/{self.deployment(name)['id']}/create_flow_run", body)["id"])

    def wait(self, run: str) -> dict[str, Any]:
        """The run when it has ended."""
        self.wait_for(lambda: self.run(run)["state_type"] in FINAL)
        return self.run(run)

    def done(self, name: str, **parameters: Any) -> dict[str, Any]:
        """Submitted and ended."""
        return self.wait(self.submit(name, **parameters))

    def run(self, run: str) -> dict[str, Any]:
        found: dict[str, Any] = self.api(f"/flow_runs/{run}")
        return found

    def runs(self, **where: Any) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.api("/flow_runs/filter", {"flow_runs": where})
        return found

    def artifacts(self, run: str) -> dict[str, list[dict[str, Any]]]:
        """By key, in the order of their descriptions, which is that of their dates."""
        found: dict[str, list[dict[str, Any]]] = {}
        made = self.api("/artifacts/filter", {"flow_runs": {"id": {"any_": [run]}}})
        for item in sorted(made, key=lambda item: str(item["description"])):
            found.setdefault(item["key"], []).append(item)
        return found

    def tasks(self, run: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.api("/task_runs/filter", {"flow_runs": {"id": {"any_": [run]}}})
        return found

    def logs(self, run: str) -> list[str]:
        found = self.api("/logs/filter", {"logs": {"flow_run_id": {"any_": [run]}}, "sort": "TIMESTAMP_ASC"})
        return [item["message"] for item in found]

    def wait_for(self, happened: Callable[[], bool]) -> None:
        deadline = time.monotonic() + PATIENCE
        while not happened():
            assert time.monotonic() < deadline, self.log.read_text("utf-8")[-3000:]
            time.sleep(0.2)


def _children(pid: int) -> list[int]:
    """Every process below ``pid``."""
    parents: dict[int, list[int]] = {}
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            child, parent = int(status.parent.name), int(status.read_text("utf-8").rsplit(")")[-1].split()[1])
        except OSError:
            continue
        parents.setdefault(parent, []).append(child)
    found = list(parents.get(pid, []))
    for child in found:
        found += parents.get(child, [])
    return found


def database(folder: Path) -> str:
    """Every value of every table of a project's Prefect server, as one text."""
    with sqlite3.connect(folder / "data/work/prefect/prefect.db", timeout=60) as connection:
        names = [n for (n,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        return "\n".join(str(row) for n in names for row in connection.execute(f'SELECT * FROM "{n}"'))
