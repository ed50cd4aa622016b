"""Browser tests run by ``make test-ui`` only: they need Chromium and the extra ``ui``."""

import os

collect_ignore_glob = [] if os.environ.get("TEXTJURY_UI") else ["test_*.py"]
