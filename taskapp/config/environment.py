"""The settings of the environment and of a `.env` file."""

import os
import stat
from collections.abc import Mapping
from io import StringIO
from pathlib import Path

from taskapp.config.settings import (
    PREFIX,
    Settings,
    SettingsError,
    load_settings,
    without_service_links,
)

_MAX_TEXT = 1_000_000  # characters of a `.env`


def read_settings() -> Settings:
    """Return the settings of the environment and of a `.env` file in the working directory.

    The environment overrides the file.

    Raises:
        SettingsError: one or more are wrong; it lists all of them.
    """
    environment = without_service_links(os.environ)
    from_file = _read_env_file(Path(".env"))
    return load_settings({**_without_overridden(from_file, environment), **environment})


def _read_env_file(path: Path) -> dict[str, str]:
    try:
        # Unlike those of Path before Python 3.14, these pass over a folder that cannot be searched.
        if os.path.islink(path):  # noqa: PTH114  # see above
            _require_own(path.lstat(), path)  # first: the kernel may not follow that of another
        if not os.path.isfile(path):  # noqa: PTH113  # see above
            return {}
        from dotenv.parser import parse_stream  # noqa: PLC0415  # few have such a file

        with path.open(encoding="utf-8") as file:
            _require_own(path.lstat(), path)
            _require_own(os.fstat(file.fileno()), path)
            text = file.read(_MAX_TEXT + 1)
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError([f"The file {path} cannot be read: {error}"]) from error
    if len(text) > _MAX_TEXT:
        raise SettingsError([f"The file {path} is longer than {_MAX_TEXT:,} characters"])
    bindings = list(parse_stream(StringIO(text)))
    values = {binding.key or "": binding.value for binding in bindings}
    lines = [binding.original.line for binding in bindings if binding.error]
    problems = [f"The file {path}: line {line} is not NAME=value" for line in lines]
    problems += [
        f"The file {path}: {name} has no value"
        for name, value in values.items()
        if name.startswith(PREFIX) and value is None
    ]
    if problems:
        raise SettingsError(problems)
    return {name: value for name, value in values.items() if value is not None}


def _require_own(status: os.stat_result, path: Path) -> None:
    """Reject a file of settings that another user has written, or may write.

    Raises:
        SettingsError: it is not safe to use.
    """
    if status.st_uid not in {0, os.geteuid()}:
        owner = f"it belongs to user {status.st_uid}. Delete it, or run this in another folder."
        raise SettingsError([f"The file {path} is not safe to use: {owner}"])
    is_link = stat.S_ISLNK(status.st_mode)  # whose mode means nothing
    if not is_link and status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise SettingsError(
            [f"The file {path} is not safe to use: others may write it. Run `chmod go-w {path}`."]
        )


def _without_overridden(values: dict[str, str], environment: Mapping[str, str]) -> dict[str, str]:
    """Return the variables that the environment does not set, as NAME or as NAME_FILE."""
    return {
        name: value
        for name, value in values.items()
        if not {name.removesuffix("_FILE"), f"{name.removesuffix('_FILE')}_FILE"} & {*environment}
    }
