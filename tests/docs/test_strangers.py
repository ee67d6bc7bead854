"""Every test that ADR 0032 names exists."""

import re

from tests.docs.test_security_docs import list_tests
from tests.support.server_process import CHECKOUT

RECORD = (CHECKOUT / "docs" / "adr" / "0032-what-strangers-ran-into.md").read_text("utf-8")


def test_every_test_that_is_named_exists() -> None:
    named = set(re.findall(r"`(test_\w+)`", RECORD))
    assert len(named) > 40
    assert named - list_tests() == set()
