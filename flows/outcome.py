"""How a flow run ends: Completed with what was done, or Failed with one sentence that says what to do. Never a traceback
with a message in it: an unknown exception's message may hold row text."""

from __future__ import annotations

import os
import shlex
import subprocess
import traceback
from collections.abc import Callable
from typing import Any

from prefect import State, get_run_logger
from prefect.client.schemas.objects import FlowRun
from prefect.context import FlowRunContext
from prefect.states import Failed
from prefect.utilities.urls import url_for

from flows import turns
from textjury.errors import TextjuryError

ALERT = "TEXTJURY_ALERT"


def settled(work: Callable[[], State[Any]]) -> State[Any]:
    """The state that ``work`` gives, or Failed with the reason."""
    log = get_run_logger()
    context = FlowRunContext.get()
    assert context is not None
    assert context.flow_run is not None
    with turns.alive(context.flow_run.id):
        try:
            return work()
        except TextjuryError as error:
            for problem in error.problems:
                log.error("%s", problem)
            return Failed(message=sentence(error), data=error)
        except Exception as error:
            log.error("%s at:\n%s", type(error).__name__, "".join(traceback.format_tb(error.__traceback__)))
            said = f"textjury met a fault of its own ({type(error).__name__})"
            return Failed(message=f"{said}; the log has the place, please report it, and retry: nothing is lost")


def sentence(error: TextjuryError) -> str:
    """The first problem, and how many more there are."""
    first, *more = error.problems
    return str(first) + (f" (and {len(more)} more, see the log)" if more else "")


def alert(flow: Any, flow_run: FlowRun, state: State[Any]) -> None:
    """Hook: runs the operator's own command when a run failed or crashed. It is told names and the sentence."""
    del flow
    command = shlex.split(os.environ[ALERT])
    told = {
        "TEXTJURY_RUN": flow_run.name,
        "TEXTJURY_STATE": state.name or state.type.value,
        "TEXTJURY_REASON": state.message or "",
        "TEXTJURY_URL": url_for(flow_run) or "",
    }
    subprocess.run(command, env={**os.environ, **told}, timeout=60, check=False)  # noqa: S603 - the operator's command


ALERTS: Any = [alert] if os.environ.get(ALERT) else None
