"""The Prefect server that serving needs: one that is there already, else a child process of ours."""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from textjury.errors import PlanError, Problem

START_SECONDS = 180.0  # the first start makes the database
STOP_SECONDS = 15.0


@dataclass(frozen=True, slots=True)
class Server:
    """A server that answers. ``process`` is None when it is not ours."""

    url: str
    process: subprocess.Popen[bytes] | None = None

    @property
    def api(self) -> str:
        return f"{self.url}/api"

    @property
    def is_up(self) -> bool:
        return self.process is None or self.process.poll() is None


@contextmanager
def serving(port: int, given: str | None = None) -> Iterator[Server]:
    """The server at the API URL given, else the one at the port, else a new one that ends with the block.

    Raises PlanError when none answers.
    """
    if given:
        server = Server(given.rstrip("/").removesuffix("/api"))
        _wait(server)
        yield server
        return
    url = f"http://127.0.0.1:{port}"
    if _is_healthy(url):
        yield Server(url)
        return
    server = Server(url, _started(port))
    try:
        _wait(server)
        yield server
    finally:
        _stop(server)


def _started(port: int) -> subprocess.Popen[bytes]:
    """The server as one process (``prefect server start`` is two), out of reach of a Ctrl-C meant for its parent."""
    return subprocess.Popen(  # noqa: S603 - our own interpreter
        _command("127.0.0.1", port), env=_environment(f"http://127.0.0.1:{port}/api"), start_new_session=True
    )


def _command(host: str, port: int) -> list[str]:
    command = [sys.executable, "-m", "uvicorn", "--factory", "prefect.server.api.server:create_app"]
    return [*command, "--host", host, "--port", str(port), "--timeout-keep-alive", "5", "--log-level", "warning"]


def _environment(api: str) -> dict[str, str]:
    """Ours, with the address that the UI's pages ask."""
    return {
        **os.environ,
        "PREFECT__SERVER_FINAL": "1",
        "PREFECT_UI_API_URL": os.environ.get("PREFECT_UI_API_URL", api),
        "PREFECT_LOGGING_LEVEL": "WARNING",
    }


def _wait(server: Server) -> None:
    deadline = time.monotonic() + START_SECONDS
    while not _is_healthy(server.url):
        if not server.is_up:
            remedy = "is the port taken? choose another with --port; the lines above have the reason"
            raise PlanError(Problem(server.url, "the Prefect server ended while it started", "", remedy))
        if time.monotonic() >= deadline:
            raise PlanError(
                Problem(server.url, f"no Prefect server answers after {START_SECONDS:.0f} s", "", "look at its log")
            )
        time.sleep(0.2)


def _is_healthy(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/api/health", timeout=5) as answer:  # noqa: S310 - http(s), as configured
            return json.load(answer) is True
    except (OSError, ValueError, urllib.error.URLError):
        return False


def _stop(server: Server) -> None:
    if server.process is None or server.process.poll() is not None:
        return
    server.process.send_signal(signal.SIGTERM)
    try:
        server.process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        server.process.kill()
        server.process.wait()


def main() -> None:
    """``python -m flows.server``: the server alone, with the settings of this package, in place of this process."""
    parser = argparse.ArgumentParser("flows.server", description="The Prefect server alone.")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=4200)
    options = parser.parse_args()
    command = _command(options.host, options.port)
    environment = _environment(f"http://{options.host}:{options.port}/api")
    os.execve(command[0], command, environment)  # noqa: S606 - our own interpreter


if __name__ == "__main__":
    main()
