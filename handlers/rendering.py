"""The Jinja environments of the pages, one a language."""

from typing import TYPE_CHECKING

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from handlers.constant_calls import ConstantCalls
from handlers.devices import describe_device
from handlers.languages import Language
from handlers.static_files import digest
from taskapp.program import HOME, version

if TYPE_CHECKING:
    from handlers.application import Application

_TEMPLATES = HOME / "templates"


def make_templates(application: "Application", language: Language) -> Environment:
    """Make an environment: everything escaped, and a name that is not there is an error."""
    templates = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
        extensions=["jinja2.ext.i18n", ConstantCalls],
    )
    templates.install_gettext_translations(  # type: ignore[attr-defined]  # of the extension
        language.translations, newstyle=True
    )
    templates.globals |= {
        "language": language,
        "path": application.path,
        "static": lambda name: application.path(f"/static/{name}?v={digest(name)}"),
        "settings": application.services.settings,
        "taskapp_version": version,
    }
    templates.filters |= {
        "say": language.say,
        "number": language.number,
        "moment": language.moment,
        "ago": language.ago,
        "duration": language.duration,
        "device": describe_device,
    }
    return templates
