"""The HTTP server, which lets its clients go before it closes."""

import asyncio
from time import monotonic

from tornado.httpserver import HTTPServer


class PatientServer(HTTPServer):
    """Closes no connection on which a client may be about to send a request."""

    async def wait_until_left(self, seconds: float) -> None:
        """Wait until the clients have hung up, as every answer asks them to; at most so long."""
        deadline = monotonic() + seconds
        while self._connections:
            if monotonic() >= deadline:
                return
            await asyncio.sleep(0.01)
