"""Length of the soak: seconds in `make test`, minutes in `make soak`."""

import os

_IS_SOAK = "SOAK_SECONDS" in os.environ

SOAK_SECONDS = float(os.environ.get("SOAK_SECONDS", "8"))
WARM_UP_SECONDS = 5.0 if _IS_SOAK else 3.0  # until caches are full and all connections open
