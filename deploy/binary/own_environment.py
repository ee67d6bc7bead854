"""Runtime hook of PyInstaller: child processes get an environment without PyInstaller's changes.

PyInstaller sets LD_LIBRARY_PATH for itself, and PostgreSQL would load libraries from there. The
launcher, which PyInstaller builds too, would take itself for a part of the process that starts it.
"""

import os

for name in [name for name in os.environ if name.startswith("_PYI_")]:
    del os.environ[name]
original = os.environ.pop("LD_LIBRARY_PATH_ORIG", None)
os.environ.pop("LD_LIBRARY_PATH", None)
if original is not None:
    os.environ["LD_LIBRARY_PATH"] = original
