"""The templates of the pages in each language."""

from collections.abc import Callable

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template

from handlers.rendering.constant_folding import ConstantFolding
from handlers.rendering.languages import Language
from handlers.rendering.skeletons import SkeletonCache
from handlers.rendering.static_assets import digest
from handlers.rendering.text_rows import count_rows
from handlers.rendering.user_agents import describe_device
from taskapp.config.installation import HOME, version
from taskapp.config.settings import Settings

_TEMPLATES = HOME / "templates"


class Templates:
    """The templates and their skeletons, loaded for each language when it is first needed."""

    def __init__(self, settings: Settings, path: Callable[[str], str]) -> None:
        """`path` puts the base path before a path of this site."""
        self._settings = settings
        self._path = path
        self._environments: dict[str, Environment] = {}
        self._skeletons: dict[str, SkeletonCache] = {}

    def template(self, language: Language, name: str) -> Template:
        """Return a template in a language."""
        return self._environment(language).get_template(name)

    def skeletons(self, language: Language) -> SkeletonCache:
        """Return the skeletons of the templates in a language."""
        skeletons = self._skeletons.get(language.code)
        if skeletons is None:
            skeletons = SkeletonCache(self._environment(language))
            self._skeletons[language.code] = skeletons
        return skeletons

    def _environment(self, language: Language) -> Environment:
        environment = self._environments.get(language.code)
        if environment is None:
            environment = _make_environment(self._settings, self._path, language)
            self._environments[language.code] = environment
        return environment


def _make_environment(
    settings: Settings, path: Callable[[str], str], language: Language
) -> Environment:
    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
        extensions=["jinja2.ext.i18n", ConstantFolding],
    )
    environment.install_gettext_translations(  # type: ignore[attr-defined]  # of the extension
        language.translations, newstyle=True
    )
    environment.globals |= {
        "language": language,
        "path": path,
        "static": lambda name: path(f"/static/{name}?v={digest(name)}"),
        "settings": settings,
        "taskapp_version": version,
    }
    environment.filters |= {
        "translate": language.translate,
        "number": language.number,
        "datetime": language.format_datetime,
        "time_ago": language.time_ago,
        "duration": language.duration,
        "device": describe_device,
        "rows": count_rows,
    }
    return environment
