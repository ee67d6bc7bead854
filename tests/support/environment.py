"""The environment of the processes that tests start."""

import os

# `make test-deploy` names Debian's programs, which the embedded database then runs in the tests.
MACHINE = os.environ.pop("TASKAPP_TEST_POSTGRESQL_BIN", "")
POSTGRESQL = {"TASKAPP_POSTGRESQL_BIN": MACHINE} if MACHINE else {}
SECRET_KEY = "only-for-tests-0123456789-abcdefghijklmnop"
MEASURED = "COVERAGE_PROCESS_CONFIG"  # makes coverage measure a child process


# Of a server whose tests are not about these limits.
CHEAP_AND_UNLIMITED = {
    "TASKAPP_BCRYPT_ROUNDS": "4",  # the least; the real cost has tests of its own
    "TASKAPP_API_LIMIT": "1000000/minute",
    "TASKAPP_PAGE_LIMIT": "1000000/minute",
    "TASKAPP_REGISTER_LIMIT": "1000000/minute",
    "TASKAPP_LOGIN_LIMIT": "1000000/minute",
    "TASKAPP_SUCCESSFUL_LOGIN_LIMIT": "1000000/minute",
}


def inherited_environment(*, measured: bool = False) -> dict[str, str]:
    """Return this environment without settings of taskapp; `measured` keeps coverage's variable."""
    return {
        name: text
        for name, text in os.environ.items()
        if not name.startswith(("TASKAPP_", "OTEL_")) and (measured or name != MEASURED)
    }
