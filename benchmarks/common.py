"""What the benchmarks on labelled sets share: the sets, their label names in words, and the machine."""

from __future__ import annotations

import os
import platform
import re
import shlex
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pandas as pd

from textjury.config.schema import EMBEDDED_MODELS, ModelConfig

NAMES = {  # abbreviations: their words, nothing more
    "comp.graphics": "computer graphics",
    "comp.os.ms-windows.misc": "microsoft windows operating system",
    "comp.sys.ibm.pc.hardware": "ibm pc hardware",
    "comp.sys.mac.hardware": "apple mac hardware",
    "comp.windows.x": "the x window system",
    "misc.forsale": "things for sale",
    "rec.autos": "cars",
    "rec.motorcycles": "motorcycles",
    "rec.sport.baseball": "baseball",
    "rec.sport.hockey": "hockey",
    "sci.crypt": "cryptography",
    "sci.electronics": "electronics",
    "sci.med": "medicine",
    "sci.space": "space",
    "soc.religion.christian": "christian religion",
    "talk.politics.guns": "politics of guns",
    "talk.politics.mideast": "politics of the middle east",
    "talk.politics.misc": "politics",
    "talk.religion.misc": "religion",
    "alt.atheism": "atheism",
    "earn": "company earnings",
    "acq": "company acquisitions",
    "money-fx": "foreign exchange",
    "ABBR": "abbreviation",
    "DESC": "description",
    "ENTY": "entity",
    "HUM": "human",
    "LOC": "location",
    "NUM": "number",
}


def worded(label: str) -> str:
    """A label's name as words."""
    return NAMES.get(label, re.sub(r"[_\-/]+", " ", label).strip().lower())


def name_of(label: str) -> str:
    """The name that ``textjury init`` gives a label."""
    return re.sub(r"[^\w]+", "_", label.strip().casefold()).strip("_")


def labelled(data: Path, name: str, *, top: int | None = None, test_only: bool = False) -> pd.DataFrame:
    """Distinct texts with a list of labels each (``lists``): the most frequent ``top`` labels only, the test part only."""
    frame = pd.read_parquet(data / f"{name}.parquet")
    if test_only and "split" in frame and (frame["split"] == "test").any():
        frame = frame[frame["split"] == "test"]
    column = "labels" if "labels" in frame else "label"
    lists = frame[column].map(lambda v: [p for p in re.split(r"[|¦]", v) if p] if isinstance(v, str) else list(v))
    frame = pd.DataFrame({"text": frame["text"].astype(str), "lists": lists})
    counts = frame["lists"].explode().value_counts()
    keep = set(counts.index[: top or len(counts)])
    frame["lists"] = frame["lists"].map(lambda names: [n for n in names if n in keep])
    return frame[frame["lists"].map(bool) & (frame["text"].str.strip() != "")].drop_duplicates("text")


def sampled(frame: pd.DataFrame, rows: int, *, seed: int) -> pd.DataFrame:
    """At most ``rows`` seeded rows, numbered from 0."""
    return frame.sample(min(len(frame), rows), random_state=seed).reset_index(drop=True)


def label_options(labels: list[str]) -> list[str]:
    """What ``textjury init`` is told of the labels: ``name: words``."""
    return [f"{label}: {worded(label)}" for label in labels]


def adapted(adapter: str) -> ModelConfig:
    """The packaged encoder as an NLI model with an adapter: ``embedded:<adapter>`` or its folder."""
    place = adapter if adapter.startswith("embedded:") else str(Path(adapter).resolve())
    return EMBEDDED_MODELS["nli"].model_copy(update={"adapter": place})


def command() -> str:
    """The command line, without the places of this machine."""
    shown = [re.sub(r"(?:(?<=^)|(?<==))[^=]*/", "", part) for part in sys.argv[1:]]
    return shlex.join(["python", f"benchmarks/{Path(sys.argv[0]).name}", *shown])


def machine(*packages: str) -> dict[str, Any]:
    """System, cores, load and the versions of ``packages``."""
    return {
        "system": f"{platform.system()} {platform.machine()}",
        "cores": os.cpu_count(),
        "load_average": [round(x, 2) for x in os.getloadavg()],
        "python": platform.python_version(),
        **{name: version(name) for name in ("textjury", "numpy", *packages)},
    }
