"""Run by the one file's programs before all else: what they start is none of PyInstaller's.

PyInstaller sets where libraries are looked for, for itself; PostgreSQL and what it runs would take
some from there. And the launcher, made by PyInstaller too, would take itself for a part of the
process that started it.
"""

import os

for name in [name for name in os.environ if name.startswith("_PYI_")]:
    del os.environ[name]
original = os.environ.pop("LD_LIBRARY_PATH_ORIG", None)
os.environ.pop("LD_LIBRARY_PATH", None)
if original is not None:
    os.environ["LD_LIBRARY_PATH"] = original
