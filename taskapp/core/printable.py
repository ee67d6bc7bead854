"""Text of others, as it may be shown on a terminal or written to the log."""

import json


def printable(text: str) -> str:
    """Escape characters that end the line or move the cursor (ASVS 16.4.1)."""
    if text.isprintable():
        return text
    return "".join(sign if sign.isprintable() else json.dumps(sign)[1:-1] for sign in text)
