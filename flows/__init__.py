"""Prefect and nothing else: thin flows around textjury.pipeline.

Importing this package settles Prefect's environment before Prefect itself is imported: state below the project's
ignored work folder, nothing that calls out, quiet logs, a bounded database. What the operator has set stays as it is.
"""

import os
from pathlib import Path

KEEP_DAYS = 90  # finished runs with their logs and artifacts
KEEP_EVENT_DAYS = 14
_DAY = 24 * 60 * 60

DEFAULTS = {
    "PREFECT_HOME": str(Path("data/work/prefect").absolute()),
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "DO_NOT_TRACK": "1",
    "PREFECT_LOGGING_LEVEL": "WARNING",
    "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "120",
    # The V2 UI asks a host of its vendor for its settings at each page load; the V1 UI asks nobody.
    "PREFECT_SERVER_UI_V2_ENABLED": "false",
    "PREFECT_SERVER_UI_SHOW_PROMOTIONAL_CONTENT": "false",
    "PREFECT_SERVER_SERVICES_DB_VACUUM_ENABLED": "events,flow_runs,orphans",
    "PREFECT_SERVER_SERVICES_DB_VACUUM_RETENTION_PERIOD": str(KEEP_DAYS * _DAY),
    "PREFECT_SERVER_EVENTS_RETENTION_PERIOD": f"P{KEEP_EVENT_DAYS}D",
    # Leases in memory would be forgotten at a restart of the server, and the slots they stand for never freed.
    "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE": "prefect.server.concurrency.lease_storage.filesystem",
    "PREFECT_SERVER_CONCURRENCY_MAXIMUM_CONCURRENCY_SLOT_WAIT_SECONDS": "3",
    "PREFECT_SERVER_DEPLOYMENTS_CONCURRENCY_SLOT_WAIT_SECONDS": "10",
    "PREFECT_SERVER_DATABASE_TIMEOUT": "60",  # SQLite has one writer: others wait for it rather than fail
}
GIVEN = frozenset(name for name in DEFAULTS if name in os.environ)  # what the operator has set
for _name, _value in DEFAULTS.items():
    os.environ.setdefault(_name, _value)
Path(os.environ["PREFECT_HOME"]).mkdir(parents=True, exist_ok=True)  # SQLite does not make the folder of its database
