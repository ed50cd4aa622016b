"""The command line: thin; every command is one call into the pipeline and one way to show what came back."""

from __future__ import annotations

import datetime as dt
import json
import os
import sys
import traceback
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from textjury import __version__
from textjury.errors import ConfigError, InternalError, NothingNewError, PlanError, Problem, TextjuryError

if TYPE_CHECKING:
    from textjury.report.summary import RunReport

app = typer.Typer(
    name="textjury",
    help="Batch text classification by a jury of techniques, with an audit trail.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    epilog="Exit codes: 0 done, 2 configuration or rules, 3 input, 4 plan or models, 5 a shard failed, "
    "6 not published, 7 output held by another run, 8 audit trail broken, 9 try again, 130 interrupted.",
)
rules_app = typer.Typer(no_args_is_help=True, help="Test and examine the rules of a rulebook.")
models_app = typer.Typer(no_args_is_help=True, help="List and verify models.")
audit_app = typer.Typer(no_args_is_help=True, help="Verify the audit trail.")
ensemble_app = typer.Typer(no_args_is_help=True, help="List and activate fitted ensembles.")
app.add_typer(rules_app, name="rules")
app.add_typer(models_app, name="models")
app.add_typer(audit_app, name="audit")
app.add_typer(ensemble_app, name="ensemble")

RulebookArg = Annotated[Path, typer.Argument(help="Rulebook folder, for example rules/inbox.")]
InputOpt = Annotated[
    str | None, typer.Option("--input", "-i", help="File, folder, glob or URL; default: the rulebook's.")
]
OutputOpt = Annotated[
    Path | None, typer.Option("--output", "-o", help="Output folder; default data/output/<rulebook>.")
]
DateOpt = Annotated[str | None, typer.Option("--date", "-d", help="Logical date YYYY-MM-DD; default today.")]
DeviceOpt = Annotated[str | None, typer.Option(help="auto, cpu, cuda, cuda:N or mps; default: the rulebook's.")]
JsonOpt = Annotated[bool, typer.Option("--json", help="One JSON object on standard output, nothing else.")]


class Anew(StrEnum):
    """Whose stored signals are not used, but computed again."""

    none = "none"
    rules = "rules"
    all = "all"


RecomputeOpt = Annotated[
    Anew, typer.Option("--recompute", help="Compute signals anew: those of the rules, or of all stages.")
]
LabelsOpt = Annotated[
    str, typer.Option("--labels", "-l", help="CSV or Parquet with a label(s) column and texts or ids.")
]


@app.callback(invoke_without_command=True)
def _root(version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False) -> None:
    if version:
        typer.echo(__version__)
        raise typer.Exit


@app.command()
def init(
    folder: Annotated[Path, typer.Argument(help="Folder to write; must not exist or be empty.")],
    label: Annotated[list[str], typer.Option("--label", help='"Name: description"; give one per label.')],
    multi_label: Annotated[bool, typer.Option("--multi-label", help="A text may have several labels or none.")] = False,
    where: Annotated[str | None, typer.Option("--input", "-i", help="Input to write into the rulebook.")] = None,
    text_column: Annotated[list[str] | None, typer.Option("--text-column", help="Repeat to join columns.")] = None,
    id_column: Annotated[str | None, typer.Option("--id-column")] = None,
    as_json: JsonOpt = False,
) -> None:
    """Write a rulebook folder that runs at once."""
    from textjury.pipeline.init import init_rulebook

    written = init_rulebook(
        folder, label, multi_label=multi_label, where=where, text_columns=text_column, id_column=id_column
    )
    if as_json:
        _print_json({"folder": str(folder), "files": [str(p) for p in written]})
        return
    for path in written:
        typer.echo(f"wrote {path}")
    typer.echo(f"next: textjury check {folder}   then: textjury run {folder}" + ("" if where else " --input FILE"))


@app.command()
def check(rulebook: RulebookArg, where: InputOpt = None, device: DeviceOpt = None, as_json: JsonOpt = False) -> None:
    """Check configuration, rules and their examples, columns, models and device; every problem in one list."""
    from textjury.pipeline.check import check_rulebook

    result = check_rulebook(rulebook, where=where, device=device)
    if as_json:
        _print_json(
            {
                "ok": not result.problems,
                "problems": [_problem(p) for p in result.problems],
                "checked": result.checked,
            }
        )
    else:
        from textjury.report import terminal

        terminal.show_check(result.checked, result.problems)
    if result.problems:
        raise typer.Exit(result.exit_code)


@app.command()
def plan(
    rulebook: RulebookArg,
    where: InputOpt = None,
    output: OutputOpt = None,
    date: DateOpt = None,
    device: DeviceOpt = None,
    recompute: RecomputeOpt = Anew.none,
    as_json: JsonOpt = False,
) -> None:
    """Show what a run would do: rows, shards, and per stage how many texts are known already."""
    from textjury.pipeline.forecast import forecast
    from textjury.pipeline.plan import make_plan

    made = make_plan(rulebook, where=where, output=output, date=_date(date), device=device, recompute=recompute.value)
    shown = forecast(made)
    if as_json:
        _print_json(shown.to_json())
        return
    from textjury.report import terminal

    terminal.show_forecast(shown.to_json())


@app.command()
def run(
    rulebook: RulebookArg,
    where: InputOpt = None,
    output: OutputOpt = None,
    date: DateOpt = None,
    device: DeviceOpt = None,
    force: Annotated[bool, typer.Option("--force", help="Run again even if nothing changed.")] = False,
    recompute: RecomputeOpt = Anew.none,
    as_json: JsonOpt = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress, only the summary.")] = False,
) -> None:
    """Classify the input and publish the tables of one date."""
    from textjury.pipeline.plan import make_plan
    from textjury.pipeline.run import run as run_plan
    from textjury.report import terminal

    try:
        made = make_plan(
            rulebook, where=where, output=output, date=_date(date), device=device, recompute=recompute.value
        )
    except NothingNewError as quiet_day:  # a quiet day is no failure
        if as_json:
            _print_json({"status": "nothing new", "problems": [_problem(p) for p in quiet_day.problems]})
        else:
            typer.echo(str(quiet_day))
        return
    with terminal.progress(enabled=not (as_json or quiet)) as events:
        report = run_plan(made, force=force, events=events)
    _show_report(report, rulebook, as_json)


@app.command()
def due(
    rulebook: RulebookArg,
    until: Annotated[str | None, typer.Option("--until", help="Last date YYYY-MM-DD; default today.")] = None,
    since: Annotated[
        str | None, typer.Option("--since", help="First date; default schedule.catch_up_days ago.")
    ] = None,
    where: InputOpt = None,
    output: OutputOpt = None,
    as_json: JsonOpt = False,
) -> None:
    """List the dates that a nightly run would take up: those whose input is new or has changed."""
    from textjury.config.load import load_rulebook
    from textjury.pipeline.due import due as dates_due
    from textjury.pipeline.places import logical_today

    last = _date(until, "--until") or logical_today(load_rulebook(rulebook))
    rows = [
        d.to_json() for d in dates_due(rulebook, until=last, since=_date(since, "--since"), where=where, output=output)
    ]
    _show_rows("due", rows, as_json)


@app.command()
def held(rulebook: RulebookArg, output: OutputOpt = None, as_json: JsonOpt = False) -> None:
    """List the outputs that the publication gate holds until someone accepts them, with the reasons."""
    from textjury.pipeline.gate import held as outputs_held

    found = outputs_held(_output_of(rulebook, output))
    if as_json:
        _print_json({"held": [item.to_json() for item in found]})
        return
    for item in found:
        typer.echo(f"{item.date}  {item.rows:,} rows, run {item.run_id}")
        for reason in item.reasons:
            typer.echo(f"            {reason}")
    typer.echo(f"accept with: textjury accept {rulebook} DATE --by NAME --reason WHY" if found else "held: none")


@app.command()
def accept(
    rulebook: RulebookArg,
    date: Annotated[str, typer.Argument(help="Date YYYY-MM-DD of the held output.")],
    by: Annotated[str, typer.Option("--by", help="Who accepts it; goes into the audit ledger.")],
    reason: Annotated[str, typer.Option("--reason", help="Why; goes into the audit ledger.")],
    output: OutputOpt = None,
    as_json: JsonOpt = False,
) -> None:
    """Publish what the gate holds for a date, exactly as it was kept."""
    from textjury.pipeline.gate import accept as accept_output

    day = _date(date, "DATE")
    assert day is not None
    _show_report(accept_output(rulebook, day, by=by, reason=reason, output=output), rulebook, as_json)


@app.command()
def history(
    rulebook: RulebookArg,
    last: Annotated[int, typer.Option("--last", min=1, help="How many dates.")] = 14,
    output: OutputOpt = None,
    as_json: JsonOpt = False,
) -> None:
    """List the last published dates: rows, rejects, rows for review, seconds, and the rows of each label."""
    from textjury.pipeline.history import history as published_dates

    rows = [past.to_json() for past in published_dates(_output_of(rulebook, output), last=last)]
    if not as_json:
        rows = [{**{k: v for k, v in row.items() if k != "label_counts"}, **row["label_counts"]} for row in rows]
        names = dict.fromkeys(name for row in rows for name in row)
        rows = [{name: row.get(name) for name in names} for row in rows]
    _show_rows("history", rows, as_json)


@app.command()
def fit(
    rulebook: RulebookArg,
    labels: Annotated[
        str | None, typer.Option("--labels", "-l", help="As for evaluate; default: the review labels in OUTPUT/labels.")
    ] = None,
    where: InputOpt = None,
    output: OutputOpt = None,
    device: DeviceOpt = None,
    activate: Annotated[bool, typer.Option(help="Use the new ensemble from now on.")] = True,
    compare: Annotated[
        bool, typer.Option("--compare", help="Use it only if it is not worse than the current one.")
    ] = False,
    as_json: JsonOpt = False,
) -> None:
    """Train the stacking ensemble on labelled rows."""
    from textjury.report import terminal

    with terminal.progress(enabled=not as_json) as events:
        if compare:
            from textjury.pipeline.compare import compare as compare_ensembles

            compared = compare_ensembles(
                rulebook, labels=labels, activate=activate, output=output, where=where, device=device, progress=events
            )
        else:
            from textjury.pipeline.fit import fit as fit_rulebook

            fitted = fit_rulebook(
                rulebook, labels, where=where, output=output, device=device, activate_it=activate, progress=events
            )
    if as_json:
        _print_json(compared.to_json() if compare else fitted.to_json())
    elif compare:
        terminal.show_comparison(compared.to_json())
    else:
        terminal.show_fit(fitted.to_json(), str(rulebook), fitted.labels)


@app.command()
def evaluate(
    rulebook: RulebookArg,
    labels: LabelsOpt,
    where: InputOpt = None,
    output: OutputOpt = None,
    device: DeviceOpt = None,
    as_json: JsonOpt = False,
) -> None:
    """Score the ensemble, each stage, the ensemble without each stage, and the baselines on labelled rows."""
    from textjury.pipeline.evaluate import evaluate as evaluate_rulebook
    from textjury.report import terminal

    with terminal.progress(enabled=not as_json) as events:
        result = evaluate_rulebook(rulebook, labels, where=where, output=output, device=device, progress=events)
    if as_json:
        _print_json(result)
        return
    terminal.show_evaluation(result)


@app.command()
def finetune(
    rulebook: RulebookArg,
    labels: Annotated[
        str | None, typer.Option("--labels", "-l", help="As for fit; default: the review labels in OUTPUT/labels.")
    ] = None,
    where: InputOpt = None,
    output: OutputOpt = None,
    out: Annotated[Path | None, typer.Option("--out", help="Folder to write; default below RULEBOOK/models.")] = None,
    base: Annotated[str, typer.Option(help="Model of the rulebook to start from.")] = "embedding",
    lora: Annotated[
        bool, typer.Option("--lora/--full", help="Small matrices, merged when saved; or all weights.")
    ] = True,
    epochs: Annotated[int, typer.Option(min=1, help="How often every row is seen.")] = 5,
    max_minutes: Annotated[float | None, typer.Option(min=0.1, help="End after this time at the latest.")] = None,
    learning_rate: Annotated[
        float | None, typer.Option(min=1e-7, max=0.1, help="Peak; default 0.0005 (LoRA) or 0.0001 (full).")
    ] = None,
    held_out: Annotated[float, typer.Option(min=0.05, max=0.5, help="Share of the rows kept for measuring.")] = 0.2,
    seed: Annotated[int, typer.Option()] = 13,
    write: Annotated[bool, typer.Option("--register", help="Switch it on in the rulebook's pipeline.toml.")] = False,
    as_json: JsonOpt = False,
) -> None:
    """Train a classifier on labelled rows, for the classifier stage. The same command resumes an interrupted run."""
    import logging

    from textjury.pipeline.finetune import finetune as finetune_rulebook
    from textjury.report import terminal
    from textjury.training.finetune import Recipe

    recipe = Recipe(
        method="lora" if lora else "full",
        epochs=epochs,
        max_minutes=max_minutes,
        learning_rate=learning_rate,
        seed=seed,
    )
    if not as_json:
        logging.basicConfig(level=logging.WARNING, format="%(message)s")
        logging.getLogger("textjury.training").setLevel(logging.INFO)
    result = finetune_rulebook(
        rulebook,
        labels,
        where=where,
        output=output,
        out=out,
        base=base,
        recipe=recipe,
        held_out=held_out,
        register_it=write,
    )
    assert result is not None  # no run is left half-way from here
    if as_json:
        _print_json(result.to_json())
    else:
        terminal.show_finetuned(result.to_json(), str(rulebook))


@app.command(add_help_option=False, context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def train(context: typer.Context) -> None:
    """Train adapters from data: nli-onepass, nli, ner, evaluate-ner, ... See: textjury train --help."""
    from textjury.training.__main__ import main as train_main

    raise typer.Exit(train_main(context.args))


@app.command()
def explain(
    row_id: Annotated[str, typer.Argument(help="Row id, as in the predictions table.")],
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Output folder; default: the only one below data/output."),
    ] = None,
    date: DateOpt = None,
    as_json: JsonOpt = False,
) -> None:
    """Retell one row: signals, evidence, contributions, what was cut or failed."""
    from textjury.audit.explain import lines
    from textjury.pipeline.explain import explain_row

    report = explain_row(row_id, output=_output(output), date=_date(date) if date else None)
    if as_json:
        _print_json(report.to_json())
        return
    for line in lines(report):
        typer.echo(line)


@app.command()
def export(
    table: Annotated[str, typer.Argument(help="predictions, signals, evidence, rejects or runs.")],
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Output folder.")] = None,
    file_format: Annotated[str, typer.Option("--format", "-f", help="csv or parquet.")] = "csv",
    target: Annotated[Path | None, typer.Option("--to", help="File to write; default TABLE.FORMAT.")] = None,
    date: DateOpt = None,
    as_json: JsonOpt = False,
) -> None:
    """Write a table to one CSV or Parquet file."""
    from textjury.tables.export import export_table

    path = target or Path(f"{table}.{file_format}")
    rows = export_table(
        table,
        file_format,
        output=_output(output),
        target=path,
        dates=[made] if (made := _date(date)) else None,
    )
    if as_json:
        _print_json({"file": str(path), "rows": rows})
    else:
        typer.echo(f"wrote {rows:,} rows to {path}")


@app.command()
def doctor(as_json: JsonOpt = False) -> None:
    """Look at this machine: versions, device, memory, disk, embedded models."""
    from textjury.pipeline.doctor import examine

    findings = examine()
    if as_json:
        _print_json(findings.to_json())
    else:
        from textjury.report import terminal

        terminal.show_doctor(findings.to_json())
    if not findings.healthy:
        raise typer.Exit(PLAN_EXIT)


PLAN_EXIT = 4


@app.command()
def serve(
    port: Annotated[int, typer.Option(help="Port of the Prefect server on 127.0.0.1.", min=1, max=65535)] = 4200,
    rules: Annotated[str, typer.Option(help="Folder of the rulebooks to offer and to schedule.")] = "rules",
) -> None:
    """Every night by itself, any date from the browser: a Prefect server with the flows nightly, backfill and fit."""
    from importlib.util import find_spec

    if missing := [name for name in ("prefect", "flows") if find_spec(name) is None]:
        said = f"{' and '.join(missing)} not installed"
        raise PlanError(Problem("textjury serve", said, "", "pip install 'textjury[prefect]'"))
    # A process of its own: the flows settle Prefect's environment before Prefect is imported.
    command = [sys.executable, "-m", "flows.serve", "--port", str(port), "--rules", rules]
    os.execv(sys.executable, command)  # noqa: S606 - our own interpreter and module


@rules_app.command("test")
def rules_test(rulebook: RulebookArg, as_json: JsonOpt = False) -> None:
    """Run the examples of every rule: those that must hit, and those that must not."""
    from textjury.pipeline.check import test_rules
    from textjury.report import terminal

    results = test_rules(rulebook)
    failed = [r for r in results if not r["ok"]]
    if as_json:
        _print_json({"examples": len(results), "failed": failed})
    else:
        terminal.show_rule_tests(results)
    if failed:
        raise typer.Exit(ConfigError.exit_code)


@rules_app.command("health")
def rules_health(rulebook: RulebookArg, where: InputOpt = None, as_json: JsonOpt = False) -> None:
    """Coverage, overlap and conflict of every rule over an input."""
    from textjury.pipeline.check import rule_health
    from textjury.report import terminal

    rows = rule_health(rulebook, where=where)
    if as_json:
        _print_json({"rules": rows})
    else:
        terminal.show_table("rules", rows)


@models_app.command("list")
def models_list(
    rulebook: Annotated[Path | None, typer.Argument(help="A rulebook; default: the embedded models.")] = None,
    as_json: JsonOpt = False,
) -> None:
    """List the models with where they are found and their digests."""
    from textjury.pipeline.models import list_models
    from textjury.report import terminal

    rows = list_models(rulebook)
    if as_json:
        _print_json({"models": rows})
    else:
        terminal.show_table("models", rows)


@models_app.command("verify")
def models_verify(
    rulebook: Annotated[Path | None, typer.Argument(help="A rulebook; default: the embedded models.")] = None,
    as_json: JsonOpt = False,
) -> None:
    """Compute every model's digest anew, load it and run its sanity check."""
    from textjury.pipeline.models import verify_models
    from textjury.report import terminal

    rows = verify_models(rulebook)
    if as_json:
        _print_json({"models": rows})
    else:
        terminal.show_table("models", rows)
    if any(row["status"] != "ok" for row in rows):
        raise typer.Exit(PLAN_EXIT)


@audit_app.command("verify")
def audit_verify(
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Output folder.")] = None,
    as_json: JsonOpt = False,
) -> None:
    """Verify the hash chain of the audit ledger, and that the published files have the bytes it records."""
    from textjury.audit.manifest import changed_files, recorded_files
    from textjury.errors import AuditError
    from textjury.pipeline.record import ledger_of

    folder = _output(output)
    found = ledger_of(folder).check()
    files = recorded_files(entry.body for entry in ledger_of(folder).entries())
    problems = [*found.problems, *changed_files(files, folder)]
    if as_json:
        _print_json(
            {
                "ok": not problems,
                "entries": found.entries,
                "head": found.head.hash,
                "problems": [_problem(p) for p in problems],
            }
        )
    else:
        for problem in problems:
            typer.echo(str(problem), err=True)
        verdict = "NOT sound" if problems else "sound"
        typer.echo(f"{found.entries} entries, {len(files)} published files: {verdict}; head {found.head.hash[:16]}")
    if problems:
        raise typer.Exit(AuditError.exit_code)


@ensemble_app.command("list")
def ensemble_list(rulebook: RulebookArg, as_json: JsonOpt = False) -> None:
    """List the fitted ensembles of a rulebook; the active one is marked."""
    from textjury.pipeline.fit import list_ensembles
    from textjury.report import terminal

    rows = list_ensembles(rulebook)
    if as_json:
        _print_json({"ensembles": rows})
    else:
        terminal.show_table("ensembles", rows)


@ensemble_app.command("activate")
def ensemble_activate(
    rulebook: RulebookArg,
    digest: Annotated[str, typer.Argument(help='Digest (or its first characters), or "vote".')],
) -> None:
    """Use a fitted ensemble from now on, or go back to the vote."""
    from textjury.pipeline.fit import activate_ensemble

    typer.echo(f"active: {activate_ensemble(rulebook, digest)}")


def _show_report(report: RunReport, rulebook: Path, as_json: bool) -> None:
    if as_json:
        _print_json(report.to_json())
        return
    from textjury.report import terminal

    terminal.show_report(report, str(rulebook))


def _show_rows(name: str, rows: list[dict[str, Any]], as_json: bool) -> None:
    if as_json:
        _print_json({name: rows})
        return
    from textjury.report import terminal

    terminal.show_table(name, rows)


def _output_of(rulebook: Path, output: Path | None) -> Path:
    """The output folder of a rulebook, there or not."""
    from textjury.config.load import load_rulebook
    from textjury.pipeline.places import places_of

    return places_of(load_rulebook(rulebook), output).output


def _date(value: str | None, place: str = "--date") -> dt.date | None:
    if value is None:
        return None
    try:
        return dt.date.fromisoformat(value)
    except ValueError:
        raise ConfigError(Problem(place, f"{value!r} is not a date", "YYYY-MM-DD")) from None


def _output(output: Path | None) -> Path:
    """The output folder as asked, else the only one below ``data/output``."""
    if output is not None:
        if not output.is_dir():
            raise ConfigError(Problem("--output", f"{str(output)!r} is not a folder", "an output folder of a run"))
        return output
    found = sorted(p.parent for p in Path("data/output").glob("*/delta"))
    if len(found) != 1:
        names = ", ".join(str(p) for p in found) or "none"
        raise ConfigError(Problem("--output", f"found {names} below data/output", "one output folder", "give --output"))
    return found[0]


def _problem(problem: Problem) -> dict[str, str]:
    return {k: getattr(problem, k) for k in ("place", "problem", "expected", "remedy")}


def _print_json(value: Any) -> None:
    typer.echo(json.dumps(value, ensure_ascii=False, default=str))


def _report_error(error: TextjuryError, *, as_json: bool) -> int:
    if as_json:
        _print_json(
            {
                "error": type(error).__name__,
                "exit_code": error.exit_code,
                "problems": [_problem(p) for p in error.problems],
            }
        )
    else:
        for problem in error.problems:
            typer.echo(f"error: {problem}", err=True)
    return error.exit_code


def _internal(error: Exception) -> InternalError:
    """Our bug, told by its type and place only: the message of an unknown exception may hold row text."""
    frames = traceback.extract_tb(error.__traceback__)[-3:]
    where = " < ".join(f"{Path(f.filename).name}:{f.lineno}" for f in reversed(frames))
    remedy = "please report it; TEXTJURY_DEBUG=1 shows the whole traceback, which may hold text"
    return InternalError(Problem("textjury", f"internal error {type(error).__name__} at {where}", "", remedy))


def main() -> None:
    """Run the command line with the exit codes of the error tree."""
    raise SystemExit(_guarded(lambda: app(standalone_mode=False)))


def _guarded(call: Callable[[], Any]) -> int:
    as_json = "--json" in sys.argv
    try:
        result = call()
        return result if isinstance(result, int) else 0
    except TextjuryError as error:
        return _report_error(error, as_json=as_json)
    except typer.Exit as stop:
        return stop.exit_code
    except (KeyboardInterrupt, typer.Abort):
        typer.echo("interrupted: nothing half-written; the same command resumes", err=True)
        return 130
    except Exception as error:
        show, code = getattr(error, "show", None), getattr(error, "exit_code", None)
        if show is not None and isinstance(code, int):  # a usage error; its class is in click or in typer itself
            show()
            return code
        if os.environ.get("TEXTJURY_DEBUG"):
            raise
        return _report_error(_internal(error), as_json=as_json)
