"""The headers of an answer, most of which are the same for every answer of a kind."""

from collections.abc import Mapping

from tornado.httputil import HTTPHeaders


class AnswerHeaders(HTTPHeaders):
    """Headers that begin with some that are taken over as they are.

    Setting the ten of them one by one is a thirtieth of a short request.
    """

    def __init__(self, fixed: Mapping[str, tuple[str]]) -> None:
        """Take headers in their normal form; as tuples, none can grow and be another answer's."""
        super().__init__()
        self._as_list.update(fixed)  # type: ignore[arg-type]  # read as a list is
