"""Waiting for a condition that nothing signals."""

import asyncio
from collections.abc import Callable


async def wait_until(condition: Callable[[], object], seconds: float, *, interval: float) -> bool:
    """Check a condition every `interval` seconds; return False if it stays false for `seconds`."""
    clock = asyncio.get_running_loop().time
    deadline = clock() + seconds
    while not condition():
        if clock() >= deadline:
            return False
        await asyncio.sleep(interval)
    return True
