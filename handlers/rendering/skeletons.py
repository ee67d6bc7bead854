"""Page skeletons: templates rendered once for each variant, with placeholders for their values.

Filling placeholders takes a fraction of the time of running a template for each page or task. A
skeleton is cached, so no user's text is part of it (ADR 0029).
"""

import re
from collections.abc import Hashable, Iterable, Mapping, Sequence
from functools import lru_cache
from operator import itemgetter

from jinja2 import Environment
from markupsafe import escape

_PLACEHOLDER = re.compile("\0(\\w+)\0")  # no template contains NUL
CACHE_SIZE = 200  # skeletons per language; the list of tasks has about that many variants


class HtmlChunks(list[str]):
    """HTML in parts, joined only with the page: joining them before is one more copy."""

    def __html__(self) -> str:
        """Return the HTML, as Jinja and markupsafe ask for it."""
        return "".join(self)


class Skeleton:
    """Static chunks of a rendered template, with at least two placeholders between them."""

    def __init__(self, rendered: str, names: Sequence[str]) -> None:
        self._chunks = _PLACEHOLDER.split(rendered)
        # One call picks the values of all placeholders: a page of 50 tasks has 800.
        self._pick = itemgetter(*(names.index(name) for name in self._chunks[1::2]))

    def fill(self, values: Sequence[str]) -> list[str]:
        """Return the chunks with values between them: HTML, in the order of `names`."""
        chunks = self._chunks.copy()
        chunks[1::2] = self._pick(values)
        return chunks


class SkeletonCache:
    """The skeletons of the templates of one language."""

    def __init__(self, templates: Environment) -> None:
        self._templates = templates
        self._find = lru_cache(CACHE_SIZE)(self._make)

    def find(
        self, template: str, variant: Mapping[str, Hashable], placeholders: Iterable[str]
    ) -> Skeleton:
        """Return the skeleton of a template for a variant.

        `variant` has the values that the template branches on. `placeholders` names those that are
        filled in later; the template can only write them and test whether they are set.
        """
        return self._find(template, tuple(variant.items()), tuple(placeholders))

    def render(
        self,
        template: str,
        variant: Mapping[str, Hashable],
        values: Mapping[str, str | HtmlChunks | None],
    ) -> str:
        """Return the page that the template makes of a variant and of values, which are escaped."""
        present = {name: _escape(value) for name, value in values.items() if value}
        absent = {name: "" for name, value in values.items() if not value}
        skeleton = self.find(template, {**variant, **absent}, present)
        return "".join(skeleton.fill(tuple(present.values())))

    def _make(
        self,
        template: str,
        variant: tuple[tuple[str, Hashable], ...],
        placeholders: tuple[str, ...],
    ) -> Skeleton:
        marks = {name: f"\0{name}\0" for name in placeholders}
        rendered = self._templates.get_template(template).render(dict(variant), **marks)
        return Skeleton(rendered, placeholders)


def _escape(value: str | HtmlChunks) -> str:
    return value.__html__() if isinstance(value, HtmlChunks) else escape(value)
