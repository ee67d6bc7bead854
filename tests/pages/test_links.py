"""Addresses in descriptions can be clicked, and no text becomes anything else."""

import re
from html import escape
from html.parser import HTMLParser
from time import process_time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from handlers.rendering.links import link_addresses
from tests.support.clients import ApiClient
from tests.support.page_client import HOSTILE, PageClient

pytest_plugins = ["tests.support.page_fixtures"]
LINK_ATTRIBUTES = ["href", "rel", "dir"]


class Links(HTMLParser):
    """Reads HTML that may have links, and nothing else."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.texts: list[str] = []
        self.links: list[str] = []
        self.open_link: str | None = None
        self.feed(html)
        self.close()
        assert self.open_link is None

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert (tag, [name for name, _ in attrs]) == ("a", LINK_ATTRIBUTES)
        values = dict(attrs)
        assert (values["rel"], values["dir"]) == ("noopener nofollow", "ltr")
        assert self.open_link is None
        self.open_link = ""
        self.links.append(values["href"] or "")

    def handle_endtag(self, tag: str) -> None:
        assert (tag, self.open_link) == ("a", self.links[-1])
        self.open_link = None

    def handle_data(self, data: str) -> None:
        self.texts.append(data)
        if self.open_link is not None:
            self.open_link += data

    def handle_comment(self, data: str) -> None:
        raise AssertionError(data)

    def handle_decl(self, decl: str) -> None:
        raise AssertionError(decl)

    def handle_pi(self, data: str) -> None:
        raise AssertionError(data)

    def unknown_decl(self, data: str) -> None:
        raise AssertionError(data)


@pytest.mark.parametrize(
    ("text", "links"),
    [
        ("https://example.com", ["https://example.com"]),
        ("See http://example.com/a?b=c&d=e#f.", ["http://example.com/a?b=c&d=e#f"]),
        ("(https://example.com/a_(b))", ["https://example.com/a_(b)"]),
        (
            "[https://example.com/x], (see https://b.example)",
            ["https://example.com/x", "https://b.example"],
        ),
        (
            '<https://example.com/x> "https://b.example/y"',
            ["https://example.com/x", "https://b.example/y"],
        ),
        (
            "**https://example.com/x** _https://b.example_",
            ["https://example.com/x", "https://b.example"],
        ),
        ("https://a.example/x...!?", ["https://a.example/x"]),
        ("HTTPS://EXAMPLE.COM/X", ["HTTPS://EXAMPLE.COM/X"]),
        (
            "http://localhost:8000/x http://192.0.2.1/y",
            ["http://localhost:8000/x", "http://192.0.2.1/y"],
        ),
        ("https://[2001:db8::1]:8443/x", ["https://[2001:db8::1]:8443/x"]),
        ("https://stra\u00dfe.example/\u00e4", ["https://stra\u00dfe.example/\u00e4"]),
        (
            "\u770bhttps://example.com/\u8def\u5f84\u3002\u518d\u89c1",
            ["https://example.com/\u8def\u5f84"],
        ),
        ("\uff08https://example.com/x\uff09", ["https://example.com/x"]),
        ("\u05e8\u05d0\u05d4 https://example.com/\u05d0!", ["https://example.com/\u05d0"]),
        ("https://example.com/a\u202ecod.exe", ["https://example.com/a"]),
        ("https://example.com/'onclick='alert(1)", ["https://example.com/'onclick='alert(1)"]),
        ("https://example.com/a&amp;b", ["https://example.com/a&amp;b"]),
        (
            "https://\u00e4rzte.example, (https://\u4f8b.jp)",
            ["https://\u00e4rzte.example", "https://\u4f8b.jp"],
        ),
        ("https://a.example/1 https://a.example/1", ["https://a.example/1"] * 2),
        ("ftp://a.example javascript://a.example/%0aalert(1) data:text/html,x //a.example", []),
        (
            "https:// http://. xhttps://a.example https:/a http:///a http\u017f://a https://\u200bx",
            [],
        ),
        ("https:\\\\a.example h\u200bttps://a.example https\uff1a//a.example", []),
    ],
)
def test_an_address_is_a_link_and_the_sentence_around_it_is_not(
    text: str, links: list[str]
) -> None:
    assert Links(link_addresses(text)).links == links


def test_a_very_long_address_is_one_link() -> None:
    address = "https://example.com/" + "a/" * 4990 + "b"
    assert Links(link_addresses(address)).links == [address]


PIECES = [
    *("http://", "https://", "HTTPS://", "javascript:", "data:", "//", "a.example", "/x", "[::1]"),
    *("&", "&amp;", "&quot;", "&#34;", "'", "<", ">", "<script>", "</a>", "<a href=", "onclick="),
    *('"', "-->", "<!--", "]]>", "(", ")", "[", "]", ".", ",", " ", "\n", "\t", "\x0b", "\x85"),
    *("\\", "`", "{{", "%22", "@", ":", "\u0130", "\u017f", "\u2028", "\u202e", "\u3002", "\u05d0"),
    *("\U0001f600", "\ud83d"),
]
TAG = re.compile(r'<a href="[^"<>]*" rel="noopener nofollow" dir="ltr">|</a>')
texts = st.lists(st.sampled_from(PIECES), max_size=30).map("".join) | st.text(max_size=60)


@given(texts)
def test_no_text_becomes_anything_but_itself_with_links(text: str) -> None:
    html = link_addresses(text)
    assert TAG.sub("", html) == escape(text)  # without the tags that were added
    for link in Links(html).links:
        assert re.match("https?://[^/]", link, re.IGNORECASE)
        assert not re.search(r"[\s<>\"\\\u202e]", link)


@pytest.mark.parametrize(
    "piece",
    [
        "http://",
        "http://a",
        "http://a(",
        "http://a)",
        "http://a.",
        "a)",
        "http:",
        "h",
        "http://[",
        "://",
    ],
)
def test_any_text_is_read_in_linear_time(piece: str) -> None:
    for begin in ("", "http://a.example/", "http://a.example/("):
        before = process_time()
        link_addresses(begin + piece * 5000)
        assert process_time() - before < 0.5


@pytest.mark.gen_test
async def test_links_are_in_descriptions_short_and_long_and_nowhere_else(
    mine: PageClient, alice: ApiClient
) -> None:
    address = "https://example.com/?a=1&b=2"
    link = '<a href="https://example.com/?a=1&amp;b=2" rel="noopener nofollow" dir="ltr">'
    await alice.add_task(f"Title {address}", description=f"See {address}.")
    assert (await mine.open("/tasks")).html.count(link) == 1
    await alice.add_task("Long", description=f"{address} " * 20)
    assert (await mine.open("/tasks")).html.count(link) == 21
    await alice.add_task("Hostile", description=f"{address}{HOSTILE[0]} {HOSTILE[0]}{address}")
    page = await mine.open("/tasks")
    assert page.html.count(link.partition("?")[0]) >= 22
    assert HOSTILE[0] not in page.html
