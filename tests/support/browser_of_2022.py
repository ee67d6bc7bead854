"""A Chromium without what Chrome 100, Firefox 115 or Safari 15.4 lacks: older than each of them.

Syntax cannot be taken away.
"""

import re

from playwright.sync_api import Page

from tests.support.server_process import CHECKOUT

WITHOUT_FEATURES = """
// FormData with a submitter: Chrome 112, Firefox 111, Safari 16.4
window.FormData = class extends FormData {
  constructor(form) {
    super(form);
  }
};
// Selectors with :has(): Chrome 105, Firefox 121, Safari 15.4
for (const { prototype } of [Document, DocumentFragment, Element]) {
  for (const name of ["querySelector", "querySelectorAll", "matches", "closest"]) {
    const select = prototype[name];
    if (!select) continue;
    prototype[name] = function (selector) {
      if (/:has\\(/.test(selector)) throw new DOMException(selector, "SyntaxError");
      return select.call(this, selector);
    };
  }
}
// ARIA attributes as properties: Firefox 119
for (const name of Object.keys(Element.prototype)) {
  if (/^aria[A-Z]|^role$/.test(name)) delete Element.prototype[name];
}
// The rest, each of a release after one of the three; without trustedTypes, a Chromium would still
// enforce what the page's policy says of them
CSS.supports = () => false;
for (const [owner, ...names] of [
  [window, "navigation", "scheduler", "requestIdleCallback", "Iterator"],
  [Document.prototype, "startViewTransition"],
  [Document, "parseHTMLUnsafe"],
  [Element.prototype, "checkVisibility", "moveBefore", "setHTMLUnsafe", "getHTML"],
  [HTMLElement.prototype, "showPopover", "hidePopover", "togglePopover", "inert"],
  [HTMLDialogElement.prototype, "requestClose"],
  [Array.prototype, "toSorted", "toReversed", "toSpliced", "with", "group"],
  [Array, "fromAsync"],
  [Object, "groupBy"],
  [Map, "groupBy"],
  [Promise, "withResolvers", "try"],
  [Set.prototype, "union", "intersection", "difference", "isSubsetOf", "isSupersetOf"],
  [String.prototype, "isWellFormed", "toWellFormed"],
  [URL, "canParse", "parse"],
  [AbortSignal, "any", "timeout"],
  [Response, "json"],
  [Intl, "Segmenter", "DurationFormat"],
  [crypto.constructor.prototype, "randomUUID"],
]) {
  for (const name of names) delete owner[name];
}
"""
_NEWER_STYLES = [
    r"/\*.*?\*/",  # comments, so that the rest does not find its names in them
    r"[^;{}]*light-dark\([^;}]*;",  # Chrome 123, Firefox 120, Safari 17.5
    r"[^{};]*:has\([^{}]*\{[^{}]*\}",
    r"@container[^{]*\{(?:[^{}]*\{[^{}]*\})*\s*\}",  # Chrome 105, Firefox 110, Safari 16
    r"@media[^{]*[<>]=?[^{]*\{(?:[^{}]*\{[^{}]*\})*\s*\}",  # Chrome 104, Safari 16.4
    r"field-sizing:[^;}]*;",
]


def make_old(page: Page) -> None:
    """Take away what a browser of 2022 does not have, before the first page is opened."""
    page.add_init_script(WITHOUT_FEATURES)
    page.route(
        re.compile("/static/style.css"),
        lambda route: route.fulfill(body=_older_style(), content_type="text/css"),
    )


def _older_style() -> str:
    style = (CHECKOUT / "static" / "style.css").read_text("utf-8")
    for newer in _NEWER_STYLES:
        style = re.sub(newer, "", style, flags=re.DOTALL)
    return style
