"""Prefect and nothing else: thin flows around textjury.pipeline.

Importing this package settles Prefect's environment before Prefect itself is imported: state below the project's
ignored work folder, no analytics, quiet logs. What the operator has set already stays as it is.
"""

import os
from pathlib import Path

_DEFAULTS = {
    "PREFECT_HOME": str(Path("data/work/prefect").absolute()),
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "DO_NOT_TRACK": "1",
    "PREFECT_LOGGING_LEVEL": "WARNING",
    "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "120",
}
for _name, _value in _DEFAULTS.items():
    os.environ.setdefault(_name, _value)
Path(os.environ["PREFECT_HOME"]).mkdir(parents=True, exist_ok=True)  # SQLite does not make the folder of its database
