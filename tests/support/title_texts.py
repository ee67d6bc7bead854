"""Titles at the limits of what is accepted, with the verdict on each."""

from schema.tables import TITLE_LENGTH

FULL = "x" * TITLE_LENGTH
# Space of every kind that `str.strip` removes.
SPACES = "\t\n\v\f\r\x1c\x1d\x1e\x1f \x85\xa0\u1680\u2000\u200a\u2028\u2029\u202f\u205f\u3000"
JOINERS = "\u200b\u200d\u2060\ufeff"  # without width, and no space
ACCEPTED = [
    "x",
    "Buy milk",
    "Buy\nmilk",
    FULL,
    f"{SPACES}{FULL}{SPACES}",
    " " * 10_000 + "x",
    "x" + "\u2028" * 1_000,
    f"x{' ' * (TITLE_LENGTH - 2)}x",
    f"{JOINERS}x",
    f"x{JOINERS}",
    "\x01x\x1b",
    "\u05e7\u05e0\u05d4 \u05d7\u05dc\u05d1",
    "\U0001f469\u200d\U0001f680" * (TITLE_LENGTH // 3),
    "\U0001f600" * TITLE_LENGTH,
    "\U0010ffff",
    "^$.*[a-z]\\u0041\\x41",
]
REJECTED = [
    "",
    " ",
    SPACES,
    JOINERS,
    f"{SPACES}{JOINERS}{SPACES}",
    "\u202e\u2066",
    "\xad",
    "\x01\x1b",
    "\u061c\u180e\ufff9",
    "\0",
    "x\0",
    "\0x",
    f"x\0{SPACES}",
    f"{FULL}x",
    f" {FULL}x ",
    f"x{' ' * (TITLE_LENGTH - 1)}x",
    f"{JOINERS}{FULL}",
    f"{FULL}\u200b",
    "\U0001f600" * (TITLE_LENGTH + 1),
]
