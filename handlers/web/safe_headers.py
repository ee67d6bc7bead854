"""The headers that protect every response (ASVS 3.4)."""

from functools import cache

CSP_NOTHING = "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
HSTS = "max-age=31536000; includeSubDomains"
NOT_CACHED = "no-store"
SAFE_HEADERS = (
    ("X-Content-Type-Options", "nosniff"),
    ("X-Frame-Options", "DENY"),
    ("Referrer-Policy", "same-origin"),
    ("Permissions-Policy", "camera=(), geolocation=(), microphone=(), payment=(), usb=()"),
    ("Cross-Origin-Opener-Policy", "same-origin"),
)


@cache
def safe_header_lines(
    content_security_policy: str,
    *,
    is_https: bool,
    cache_control: str = NOT_CACHED,
    resource_policy: str = "same-origin",
) -> str:
    """Return the lines of the headers, each with its end."""
    headers = [
        *SAFE_HEADERS,
        ("Cross-Origin-Resource-Policy", resource_policy),
        ("Cache-Control", cache_control),
        ("Content-Security-Policy", content_security_policy),
    ]
    if is_https:
        headers.append(("Strict-Transport-Security", HSTS))
    return "".join(f"{name}: {value}\r\n" for name, value in headers)
