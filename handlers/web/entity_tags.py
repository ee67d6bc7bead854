"""The entity tags of If-Match and If-None-Match, as clients send them back (RFC 9110, 8.8.3)."""

import re

# What a proxy that compresses a response adds to its tag: "-gzip" (Apache, Caddy, lighttpd),
# "--gzip" (Jetty), ";gz" (LiteSpeed).
_PROXY_SUFFIX = re.compile(r"(?:--?|;)(?:br|bzip2|deflate|gz|gzip|zstd)$")


def read_entity_tags(header: str) -> list[str]:
    """Return the tags of a header without their quotes, each also without the suffix of a proxy.

    A weak tag counts as a strong one: a proxy that compresses a response may weaken its tag, which
    still names the version.
    """
    parts = (part.strip().removeprefix("W/") for part in header.split(","))
    tags = [part[1:-1] for part in parts if part[:1] == part[-1:] == '"']
    return [*dict.fromkeys(name for tag in tags for name in (tag, _PROXY_SUFFIX.sub("", tag)))]


def is_known(tag: str, if_none_match: str) -> bool:
    """Return whether a client that sends this If-None-Match has the version with this tag."""
    if not if_none_match:
        return False
    return if_none_match.strip() == "*" or tag in read_entity_tags(if_none_match)
