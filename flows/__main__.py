"""``python -m flows [RULEBOOK]``: the nightly flow once, on a temporary server, with its summary on the terminal."""

from __future__ import annotations

import datetime as dt
import sys
from typing import Any

from textjury.errors import TextjuryError
from textjury.pipeline.plan import make_plan
from textjury.pipeline.run import holding, unchanged_report
from textjury.report import terminal
from textjury.report.summary import RunReport


def main() -> int:
    """The exit code. Prefect is only started when there is something to do: its server alone takes seconds."""
    rulebook = sys.argv[1] if len(sys.argv) > 1 else "rules/inbox"
    try:
        plan = make_plan(rulebook)
        with holding(plan):
            report = unchanged_report(plan)
        report = report or _as_flow(rulebook, plan.date)
    except TextjuryError as error:
        for problem in error.problems:
            sys.stderr.write(f"error: {problem}\n")
        return error.exit_code
    except KeyboardInterrupt:
        sys.stderr.write("interrupted: nothing half-written; the same command resumes\n")
        return 130
    terminal.show_report(report, rulebook)
    return 0


def _as_flow(rulebook: str, date: dt.date) -> RunReport:
    from flows.nightly import nightly  # noqa: PLC0415

    state = nightly(rulebook, date=date.isoformat(), return_state=True)
    found: Any = state.result()  # raises the error that failed it
    return RunReport(**{**found[0], "date": date, "notes": tuple(found[0]["notes"])})


if __name__ == "__main__":
    raise SystemExit(main())
