"""Text that another app or a bookmarklet hands over: it fills the form of a new task."""

import re

from taskapp.forms.text_rules import is_visible

_LINE_END = re.compile(r"\r\n?|\n")
_CONTROL = re.compile("[\0-\x08\x0b-\x1f\x7f-\x9f]")  # all but the tab and the line end


def fill_new_task(title: str, description: str, url: str) -> dict[str, str]:
    """Return the fields of the form, by name; none if there is no visible text.

    A browser shares the title, the selected text and the address of a page, and other apps often
    the text alone, whose first line is the title then. Several lines without a description are the
    titles of several tasks, as when they are pasted.
    """
    title, description, url = (_clean(text) for text in (title, description, url))
    if url not in description:
        description = f"{description}\n{url}".strip()
    if not title:
        title, _, description = description.partition("\n")
    lines = [line for line in title.split("\n") if is_visible(line)]
    if len(lines) > 1 and not description:
        return {"titles": "\n".join(lines)}
    fields = {"title": " ".join(lines), "description": description.strip()}
    return {name: text for name, text in fields.items() if is_visible(text)}


def _clean(text: str) -> str:
    return _CONTROL.sub("", _LINE_END.sub("\n", text)).strip()
