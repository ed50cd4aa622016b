"""``python -m flows.serve``: the Prefect server and the three deployments from one process, until it is told to stop."""

from __future__ import annotations

import argparse
import asyncio
import fcntl
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import UUID

from flows import GIVEN
from flows.server import Server, serving
from textjury.errors import ConfigError, LockError, PlanError, Problem, TextjuryError

if TYPE_CHECKING:
    from prefect.deployments.runner import RunnerDeployment
    from prefect.runner import Runner

PORT = 4200
NAMES = ("nightly", "backfill", "fit")
WATCH_SECONDS = 1.0


def main(arguments: list[str] | None = None) -> int:
    """The exit code: 0 when it was told to stop."""
    options = _parser().parse_args(arguments)
    if "PREFECT_LOGGING_LEVEL" not in GIVEN:
        os.environ["PREFECT_LOGGING_LEVEL"] = "INFO"
    os.environ["TEXTJURY_RULES"] = options.rules
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # while it starts: both signals end it the same way
    try:
        with _only_one(), serving(options.port, os.environ.get("PREFECT_API_URL")) as server:
            os.environ["PREFECT_API_URL"] = server.api  # before Prefect is imported: it reads its settings then
            _serve(server)
    except TextjuryError as error:
        for problem in error.problems:
            sys.stderr.write(f"error: {problem}\n")
        return error.exit_code
    except KeyboardInterrupt:
        pass
    sys.stderr.write("stopped; what was under way resumes where it was at the next run\n")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "textjury serve", description="Prefect server, schedules and forms on this machine."
    )
    parser.add_argument("--port", type=_port, default=PORT, help=f"port of the server on 127.0.0.1 (default {PORT})")
    parser.add_argument("--rules", default="rules", help="folder of the rulebooks (default rules)")
    return parser


def _port(text: str) -> int:
    if not text.isdigit() or not 0 < int(text) < 65536:
        raise argparse.ArgumentTypeError(f"{text!r} is not a port; a number from 1 to 65535")
    return int(text)


@contextmanager
def _only_one() -> Iterator[None]:
    """A lock on Prefect's home: two that serve the same runs would settle each other's."""
    path = Path(os.environ["PREFECT_HOME"]) / "serve.lock"
    with path.open("wb") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise LockError(
                Problem(str(path.parent), "another textjury serve uses it", "one at a time", "stop the other one first")
            ) from None
        yield


def _serve(server: Server) -> None:
    from flows.form import RULES, rulebooks  # noqa: PLC0415
    from flows.settle import settle  # noqa: PLC0415 - imports Prefect, which needs the API's URL
    from flows.turns import create_limits  # noqa: PLC0415

    if not rulebooks():
        said, remedy = "has no rulebook", "textjury init makes one; name its folder's parent with --rules"
        raise ConfigError(Problem(str(RULES), said, "folders with a pipeline.toml", remedy))
    create_limits()
    for name in settle(list(NAMES)):
        sys.stderr.write(f"settled: {name} was left behind by a killed process; retry it in the UI\n")
    asyncio.run(_until_told(server))


async def _until_told(server: Server) -> None:
    """Serves until SIGINT or SIGTERM; what is under way is cancelled then, and resumes later. PlanError if the server ends."""
    from prefect.runner import Runner  # noqa: PLC0415

    loop, told = asyncio.get_running_loop(), asyncio.Event()
    runner = Runner(name="textjury", pause_on_shutdown=False, limit=None)  # paused schedules would lose nights
    deployments = await _deployments()
    for deployment in deployments:
        deployment.work_pool_name = deployment.work_queue_name = None  # said, so that one deployed to a pool comes back
        await _forget_schedules(await runner.aadd_deployment(deployment), deployment)
    running = asyncio.create_task(runner.start())
    while not runner.started and not running.done():
        await asyncio.sleep(0.05)
    for sign in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(sign, told.set)
    _greet(server, deployments)
    try:
        while not told.is_set() and server.is_up and not running.done():
            await asyncio.wait(
                [asyncio.create_task(told.wait()), running], timeout=WATCH_SECONDS, return_when=asyncio.FIRST_COMPLETED
            )
    finally:
        await _stopped(runner, running)
    if not server.is_up:
        raise PlanError(
            Problem(server.url, "the Prefect server ended", "", "the lines above have the reason; start again")
        )


async def _forget_schedules(found: UUID, deployment: RunnerDeployment) -> None:
    """Without the schedules of rulebooks that are gone, and their runs to come; Prefect only adds and changes."""
    from prefect.client.orchestration import get_client  # noqa: PLC0415

    ours = {schedule.slug for schedule in deployment.schedules or []}
    async with get_client() as client:
        for schedule in await client.read_deployment_schedules(found):
            if schedule.slug not in ours:
                await client.delete_deployment_schedule(found, schedule.id)


async def _stopped(runner: Runner, running: asyncio.Task[None]) -> None:
    if runner.started:
        await runner.astop()
    await asyncio.wait([running], timeout=60)


async def _deployments() -> list[RunnerDeployment]:
    """The three deployments; nightly has a schedule for each rulebook, in the rulebook's time zone."""
    from prefect.client.schemas.objects import ConcurrencyLimitConfig  # noqa: PLC0415
    from prefect.schedules import Cron  # noqa: PLC0415
    from prefect.types.entrypoint import EntrypointType  # noqa: PLC0415

    from flows.backfill import backfill  # noqa: PLC0415
    from flows.fit import fit  # noqa: PLC0415
    from flows.form import rulebooks  # noqa: PLC0415
    from flows.nightly import nightly  # noqa: PLC0415

    schedules = [
        Cron(
            book.config.schedule.cron,
            timezone=book.config.schedule.timezone,
            parameters={"rulebook": book.folder.as_posix()},
            slug=book.name.replace("_", "-"),
        )
        for book in rulebooks()
    ]
    one = ConcurrencyLimitConfig(limit=1)  # a second backfill waits without a process of its own
    module = EntrypointType.MODULE_PATH
    return [
        await nightly.ato_deployment("nightly", schedules=schedules, entrypoint_type=module, tags=["textjury"]),
        await backfill.ato_deployment("backfill", concurrency_limit=one, entrypoint_type=module, tags=["textjury"]),
        await fit.ato_deployment("fit", concurrency_limit=one, entrypoint_type=module, tags=["textjury"]),
    ]


def _greet(server: Server, deployments: list[RunnerDeployment]) -> None:
    whose = "" if server.process else " (it was running already)"
    sys.stderr.write(f"\nPrefect UI   {server.url}/deployments{whose}\n")
    sys.stderr.write(f"serving      {', '.join(d.name for d in deployments)}\n")
    sys.stderr.write(f"state        {os.environ['PREFECT_HOME']}\nCtrl-C stops it.\n\n")


if __name__ == "__main__":
    raise SystemExit(main())
