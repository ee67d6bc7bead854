"""The headers of an answer, most of which are the same for every answer of a kind."""

from collections.abc import Mapping
from functools import lru_cache
from time import time

from tornado.httputil import HTTPHeaders, format_timestamp


class ResponseHeaders(HTTPHeaders):
    """Headers that begin with some that are taken over as they are.

    Setting the ten of them one by one is a thirtieth of a short request.
    """

    def __init__(self, fixed: Mapping[str, tuple[str]]) -> None:
        """Take headers in their normal form; as tuples, none can grow and be another answer's."""
        # As Tornado begins, but for a look at what else it takes.
        self._as_list = dict(fixed)  # type: ignore[arg-type]  # read as a list is
        self._combined_cache = {}


def now_as_date() -> str:
    """Give this moment as HTTP writes it; each second is written once."""
    return _write_second(int(time()))


@lru_cache(maxsize=1)
def _write_second(second: int) -> str:
    return format_timestamp(second)
