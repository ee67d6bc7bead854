"""How long the soak lasts: a while in `make test`, far longer in `make soak`."""

import os

_IS_SOAK = "SOAK_SECONDS" in os.environ

SOAK_SECONDS = float(os.environ.get("SOAK_SECONDS", "8"))
WARM_UP_SECONDS = 5.0 if _IS_SOAK else 3.0  # in which caches fill and all connections are opened
