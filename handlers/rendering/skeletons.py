"""Templates that are rendered once for all pages that look alike, with gaps where their texts go.

To run a template for each page, or for each task in it, takes several times as long as to fill
gaps. What is kept has nobody's texts: they are in the gaps.
"""

import re
from collections.abc import Hashable, Iterable, Mapping, Sequence
from functools import lru_cache
from operator import itemgetter

from jinja2 import Environment
from markupsafe import escape

_GAP = re.compile("\0(\\w+)\0")  # NUL is in no template
CACHE_SIZE = 200  # outlines of a language; the list of tasks looks different in about 100 ways


class HtmlChunks(list[str]):
    """HTML that is joined only when a page is: a copy of all its tasks takes memory and time."""

    def __html__(self) -> str:
        """Give it to a template."""
        return "".join(self)


class Skeleton:
    """What a template makes of a look: pieces, and between them gaps, of which it has two or more.

    A page of 50 tasks fills 800 gaps: the texts are picked for all gaps of a task in one step.
    """

    def __init__(self, rendered: str, names: Sequence[str]) -> None:
        """Take what a template made of gaps, and the names of the texts in the order of `fill`."""
        self._pieces = _GAP.split(rendered)
        self._pick = itemgetter(*(names.index(name) for name in self._pieces[1::2]))

    def fill(self, texts: Sequence[str]) -> list[str]:
        """Give the pieces with texts between them, which have to be safe in HTML."""
        pieces = self._pieces.copy()
        pieces[1::2] = self._pick(texts)
        return pieces


class SkeletonCache:
    """The outlines of one language."""

    def __init__(self, templates: Environment) -> None:
        """Take the templates; each is rendered when a look of it is first asked for."""
        self._templates = templates
        self._kept = lru_cache(CACHE_SIZE)(self._make)

    def find(self, template: str, look: Mapping[str, Hashable], gaps: Iterable[str]) -> Skeleton:
        """Find the outline of a template for a look.

        `gaps` names the texts that it writes; it can tell nothing of them but that they are there.
        A gap goes before what the look has under its name.
        """
        return self._kept(template, tuple(look.items()), tuple(gaps))

    def fill(
        self,
        template: str,
        look: Mapping[str, Hashable],
        texts: Mapping[str, str | HtmlChunks | None],
    ) -> str:
        """Write a page: what its template makes of a look and of texts, which are escaped."""
        there = {name: _escape(text) for name, text in texts.items() if text}
        absent = {name: "" for name, text in texts.items() if not text}
        outline = self.find(template, {**look, **absent}, there)
        return "".join(outline.fill(tuple(there.values())))

    def _make(
        self, template: str, look: tuple[tuple[str, Hashable], ...], gaps: tuple[str, ...]
    ) -> Skeleton:
        marks = {name: f"\0{name}\0" for name in gaps}
        return Skeleton(self._templates.get_template(template).render(dict(look), **marks), gaps)


def _escape(text: str | HtmlChunks) -> str:
    return text.__html__() if isinstance(text, HtmlChunks) else escape(text)
