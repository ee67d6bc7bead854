"""A page as a browser reads it: its forms, its rows of tasks, its links and its text."""

import gzip
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from html.parser import HTMLParser

import brotli
from tornado.httpclient import HTTPResponse

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

VOID = {"br", "hr", "img", "input", "link", "meta", "wbr"}  # elements without an end tag
DECODERS: dict[str, Callable[[bytes], bytes]] = {
    "zstd": zstd.decompress,
    "br": brotli.decompress,
    "gzip": gzip.decompress,
    "": bytes,
}


@dataclass
class Button:
    """A button that sends its form: the address, and the field that it adds."""

    label: str
    action: str
    fields: dict[str, str]


@dataclass
class Form:
    """A form of a page: its address, its fields with their values, and its buttons."""

    method: str
    action: str
    fields: dict[str, str] = field(default_factory=dict)
    buttons: list[Button] = field(default_factory=list)
    described: dict[str, list[str]] = field(default_factory=dict)
    invalid: set[str] = field(default_factory=set)

    def has_button(self, label: str) -> bool:
        """Return whether there is such a button."""
        return any(button.label == label for button in self.buttons)


@dataclass
class Row:
    """A task in the list."""

    id: str
    title: str
    is_completed: bool


@dataclass
class _Control:
    """A field or a button, with the form around it and the text in it."""

    tag: str
    attributes: dict[str, str]
    form: Form | None
    text: str = ""

    @property
    def is_sent(self) -> bool:
        kind = self.attributes.get("type")
        is_unchecked = kind in {"radio", "checkbox"} and "checked" not in self.attributes
        return bool(self.attributes.get("name")) and not is_unchecked

    @property
    def value(self) -> str:
        # HTML drops the first line end in a textarea.
        is_text = self.tag == "textarea"
        return self.text.removeprefix("\n") if is_text else self.attributes.get("value", "")

    def join(self, form: Form) -> None:
        """Add the field or the button to a form."""
        name = self.attributes.get("name", "")
        if self.attributes.get("aria-describedby"):
            form.described[name or "status"] = self.attributes["aria-describedby"].split()
        if self.attributes.get("aria-invalid"):
            form.invalid.add(name or "status")
        if self.tag == "button":
            if self.attributes.get("type", "submit") == "submit":
                label = self.attributes.get("aria-label") or self.text.strip()
                action = self.attributes.get("formaction", form.action)
                form.buttons.append(Button(label, action, {name: self.value} if name else {}))
        elif self.is_sent:
            assert name not in form.fields, f"{name} is twice in a form"
            form.fields[name] = self.value


class Reader(HTMLParser):
    """Reads what a browser reads: forms, rows, links, texts by id, and the whole text."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.forms: list[Form] = []
        self.rows: list[Row] = []
        self.links: list[tuple[str, str]] = []
        self.references: list[str] = []
        self.texts: dict[str, str] = {}
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.text = ""
        self._forms_by_id: dict[str, Form] = {}
        self._form: Form | None = None
        self._controls: list[_Control] = []
        self._open: list[tuple[str, dict[str, str], int, _Control | None]] = []
        self.feed(html)
        self.close()
        assert not self._open, "an element is not closed"
        for control in self._controls:
            wanted = control.attributes.get("form")
            form = self._forms_by_id[wanted] if wanted else control.form
            if form is not None:
                control.join(form)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = {name: value or "" for name, value in attrs}
        assert len(found) == len(attrs), f"<{tag}> has an attribute twice"
        self.tags.append((tag, found))
        if self._is_inert():
            if tag not in VOID:
                self._open.append((tag, found, len(self.text), None))
            return
        named = ("href", "action", "formaction", "src")
        self.references += [found[name] for name in named if name in found]
        control = None
        if tag == "form":
            assert self._form is None, "a form is in a form"
            self._form = Form(found.get("method", "get").upper(), found.get("action", ""))
            self.forms.append(self._form)
            self._forms_by_id[found.get("id", "")] = self._form
        if tag in {"input", "textarea", "button", "fieldset"}:
            control = _Control(tag, found, self._form)
            self._controls.append(control)
        if found.get("role") == "checkbox":
            self._read_row(found)
        if tag not in VOID:
            self._open.append((tag, found, len(self.text), control))

    def _is_inert(self) -> bool:
        """Return whether what comes is in a template, which only a script reads."""
        return any(tag == "template" for tag, *_ in self._open)

    def _read_row(self, check: dict[str, str]) -> None:
        row = next(found for tag, found, *_ in reversed(self._open) if tag == "li")
        is_completed = "completed" in row["class"].split()
        assert check["aria-checked"] == str(is_completed).lower()
        assert check["value"] == ("pending" if is_completed else "completed")
        self.rows.append(Row(row["id"].removeprefix("task-"), check["aria-label"], is_completed))

    def handle_endtag(self, tag: str) -> None:
        name, found, begin, control = self._open.pop()
        assert name == tag, f"<{name}> is closed by </{tag}>"
        text = self.text[begin:]
        if "id" in found:
            assert found["id"] not in self.texts, f"{found['id']} is the id of two elements"
            self.texts[found["id"]] = text.strip()
        if control is not None:
            control.text = text
        if tag == "form":
            self._form = None
        if tag == "a" and not self._is_inert():
            self.links.append((found.get("aria-label") or text.strip(), found["href"]))

    def handle_data(self, data: str) -> None:
        if not self._is_inert():
            self.text += data


class Page:
    """A response that is a page, or a redirect to one."""

    def __init__(self, response: HTTPResponse, address: str) -> None:
        self.method = response.request.method
        self.status = response.code
        self.headers = response.headers
        self.address = address
        self.location = response.headers.get("Location", "")
        self.body = response.body or b""  # as it was sent
        self.is_html = response.headers.get("Content-Type", "").startswith("text/html")
        decode = DECODERS[response.headers.get("Content-Encoding", "")]
        self.html = decode(self.body).decode("utf-8") if self.is_html and self.body else ""
        self._read = Reader(self.html)

    @property
    def text(self) -> str:
        """Return the visible text, with runs of white space as one space."""
        return " ".join(self._read.text.split())

    @property
    def flash_message(self) -> str:
        """Return the flash message with the label of its button; empty if there is none."""
        return " ".join(self.ids["flash"].split())

    @property
    def references(self) -> list[str]:
        """Return every address that the page names."""
        return self._read.references

    @property
    def ids(self) -> dict[str, str]:
        """Return the texts of all elements with an id."""
        return self._read.texts

    @property
    def forms(self) -> list[Form]:
        """Return the forms that are sent to the server."""
        return [form for form in self._read.forms if form.method != "DIALOG"]

    @property
    def links(self) -> list[str]:
        """Return the addresses of all links."""
        return [href for _, href in self._read.links]

    @property
    def rows(self) -> list[Row]:
        """Return the tasks of the list in their order."""
        return self._read.rows

    @property
    def titles(self) -> list[str]:
        """Return the titles of the tasks of the list in their order."""
        return [row.title for row in self.rows]

    def is_checked(self, title: str) -> bool:
        """Return whether a task is shown as completed."""
        return next(row.is_completed for row in self.rows if row.title == title)

    def tags(self, name: str) -> list[dict[str, str]]:
        """Return the attributes of all elements of a name."""
        return [found for tag, found in self._read.tags if tag == name]

    def form(self, button: str) -> Form:
        """Return the form with this button."""
        found = [form for form in self.forms if form.has_button(button)]
        assert len(found) == 1, f"{len(found)} forms have a button {button!r}: {self.text}"
        return found[0]

    def has_form(self, button: str) -> bool:
        """Return whether there is a form with this button."""
        return any(form.has_button(button) for form in self.forms)

    def button(self, label: str) -> Button:
        """Return the first button with this label, which is in one form only."""
        return next(button for button in self.form(label).buttons if button.label == label)

    def link(self, label: str) -> str:
        """Return the address of a link."""
        found = [href for name, href in self._read.links if name == label]
        assert found, f"no link {label!r} in {self.text}"
        return found[0]

    def has_link(self, label: str) -> bool:
        """Return whether there is such a link."""
        return any(name == label for name, _ in self._read.links)

    def error_beside(self, button: str, name: str) -> str:
        """Return the error of a field of a form; empty if there is none."""
        form = self.form(button)
        ids = [each for each in form.described.get(name, []) if each.endswith("-error")]
        assert bool(ids) == (name in form.invalid)
        return self.ids[ids[0]] if ids else ""

    @property
    def focused(self) -> list[dict[str, str]]:
        """Return the fields with autofocus."""
        fields = [*self.tags("input"), *self.tags("textarea")]
        return [tag for tag in fields if "autofocus" in tag]
