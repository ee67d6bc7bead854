"""The cookies of a request."""


def read_cookies(header: str) -> dict[str, str]:
    r"""Return the cookies of a `Cookie` header whose names came once, as they were sent.

    Only a space or a tab separates a cookie from the one before it, and a name is compared exactly.
    So "\xa0__Host-taskapp-session", which a sister domain can set because browsers see no prefix in
    it, is not "__Host-taskapp-session". Of a name that came twice, nobody knows which is ours.
    """
    cookies: dict[str, str] = {}
    repeated: set[str] = set()
    for pair in header.split(";"):
        name, _, value = pair.lstrip(" \t").partition("=")
        if name in cookies:
            repeated.add(name)
        cookies[name] = value.rstrip(" \t")
    return {name: value for name, value in cookies.items() if name not in repeated}
