"""All commands besides `serve`, each with its place."""

from collections import UserDict
from collections.abc import Mapping
from pkgutil import resolve_name
from typing import Any

COMMANDS: Mapping[str, str] = {
    "backup": "taskapp.cli.backups:backup",
    "completion": "taskapp.cli.completion:completion",
    "doctor": "taskapp.cli.operate:doctor",
    "health": "taskapp.cli.health:health",
    "maintenance": "taskapp.cli.maintenance:maintenance",
    "migrate": "taskapp.cli.operate:migrate",
    "restore": "taskapp.cli.backups:restore",
    "sessions": "taskapp.cli.users:sessions",
    "settings": "taskapp.cli.operate:show_settings",
    "task": "taskapp.cli.tasks:task",
    "user": "taskapp.cli.users:user",
}


class LazyCommands(UserDict[str, Any]):
    """Commands of a click group by their places; a command is imported when it is asked for.

    A container asks for `health` each 10 seconds, which needs neither the server nor the database.
    """

    def __getitem__(self, name: str) -> Any:
        """Return the command of this name; raise KeyError."""
        return resolve_name(super().__getitem__(name))
