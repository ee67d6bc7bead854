"""All commands besides `serve`."""

from collections.abc import Sequence

import click

from taskapp.cli.backups import BACKUP_COMMANDS
from taskapp.cli.completion import completion
from taskapp.cli.maintenance import maintenance
from taskapp.cli.operate import doctor, health, migrate, show_settings
from taskapp.cli.tasks import task
from taskapp.cli.users import sessions, user

COMMANDS: Sequence[click.Command] = (
    *(migrate, show_settings, doctor, health, maintenance),
    *(user, sessions, task),
    *BACKUP_COMMANDS,
    completion,
)
