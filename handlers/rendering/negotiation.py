"""Content negotiation by `Accept-Language` and `Accept-Encoding` (RFC 9110, 12.5)."""

import re
from collections.abc import Collection
from functools import lru_cache

_MAX_HEADER_LENGTH = 1000  # characters; browsers send fewer
_ITEM = re.compile(
    r"\s*(?P<value>[^\s;,=]+)\s*(?:;\s*q=(?P<weight>0(?:\.\d{0,3})?|1(?:\.0{0,3})?)\s*)?",
    re.ASCII | re.IGNORECASE,
)
_LANGUAGE_RANGE = re.compile(r"\*|[a-z]{1,8}(?:-[a-z0-9]{1,8})*", re.ASCII)  # RFC 4647, 2.1


def negotiate_encoding(header: str, codings: Collection[str]) -> str:
    """Return the coding that the client prefers, the first among equals; or "identity"."""
    return _negotiate_encoding(_limit(header), tuple(codings))


@lru_cache(maxsize=100)
def _negotiate_encoding(header: str, codings: tuple[str, ...]) -> str:
    weights = dict(parse_weights(header))
    weight_of = {coding: weights.get(coding, weights.get("*", 0)) for coding in codings}
    best = max(weight_of, key=weight_of.__getitem__)
    return best if weight_of[best] > 0 else "identity"


def negotiate_language(header: str, codes: Collection[str], default: str) -> str:
    """Return the language that the client prefers.

    A region is served in its language (RFC 4647, 3.4); `*` means every language without a range of
    its own.
    """
    return _negotiate_language(_limit(header), tuple(codes), default)


@lru_cache(maxsize=100)
def _negotiate_language(header: str, codes: tuple[str, ...], default: str) -> str:
    ranges = [item for item in parse_weights(header) if _LANGUAGE_RANGE.fullmatch(item[0])]
    named = {_language_of(tag) for tag, _ in ranges}
    rejected = {tag for tag, weight in ranges if weight == 0}
    for tag, _ in sorted(ranges, key=lambda item: -item[1]):
        for code in codes:
            matches = code not in named if tag == "*" else code == _language_of(tag)
            if matches and not {tag, code} & rejected:
                return code
    return default


def _language_of(tag: str) -> str:
    return tag.partition("-")[0]


def parse_weights(header: str) -> list[tuple[str, float]]:
    """Return the values of an `Accept-*` header in lower case, each with its weight (12.4.2).

    An item of another form is left out.
    """
    items = [match for item in header.split(",") if (match := _ITEM.fullmatch(item))]
    return [(item["value"].lower(), float(item["weight"] or 1)) for item in items]


def _limit(header: str) -> str:
    """Return the header, or nothing if it is too long to be parsed and cached."""
    return header if len(header) <= _MAX_HEADER_LENGTH else ""
