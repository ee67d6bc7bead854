"""What a process that a test starts gets of this one's environment."""

import os

MEASURED = "COVERAGE_PROCESS_CONFIG"  # by this, coverage measures a process too


def inherited_environment(*, measured: bool = False) -> dict[str, str]:
    """Return this environment without taskapp's settings; whoever tests `server.py` measures it."""
    return {
        name: text
        for name, text in os.environ.items()
        if not name.startswith("TASKAPP_") and (measured or name != MEASURED)
    }
