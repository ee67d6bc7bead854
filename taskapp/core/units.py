"""Amounts in the units that people read."""

import math


def format_size(size: int) -> str:
    """Return a number of bytes, such as "9 KiB", "5.3 MiB", "500 MiB" or "1.5 GiB"."""
    if size < 1024**2:
        return f"{math.ceil(size / 1024):,} KiB"
    if size >= 1024**3:
        return f"{size / 1024**3:,.1f} GiB"
    mebibytes = size / 1024**2
    return f"{mebibytes:.1f} MiB" if mebibytes < 10 else f"{mebibytes:,.0f} MiB"
