"""The signing keys: those of the setting, or one that the first start generates and keeps."""

import errno
import secrets
from pathlib import Path

from taskapp.config.parsers import read_text_file, secret_keys
from taskapp.config.settings import Settings, SettingsError
from taskapp.core.files import draft_of, open_file

# File systems without hard links, such as exFAT, SMB and some of FUSE (link(2)).
_HAS_NO_LINKS = {errno.EPERM, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK}


def load_secret_keys(settings: Settings) -> tuple[str, ...]:
    """Return the signing keys, newest first; generate one at the first start.

    Raises:
        SettingsError: the kept key cannot be read or written, or is easily guessed.
    """
    if settings.secret_key:
        return settings.secret_key
    path = settings.data_dir / "secret-key"
    try:
        _create_key(path)
        with open_file(path):  # a pipe in its place would block
            return secret_keys(read_text_file(path))
    except (OSError, ValueError) as error:
        raise SettingsError([f"The secret key in {path} cannot be used: {error}"]) from error


def _create_key(path: Path) -> None:
    """Generate a key unless the file exists; raise ValueError if its folder is something else."""
    if path.exists():
        return
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    except FileExistsError as error:
        raise ValueError(f"{path.parent} is no folder, or a link that leads nowhere") from error
    with draft_of(path, f"{secrets.token_urlsafe(48)}\n", 0o600) as draft:
        try:
            # Unlike a rename, a link fails if another process was first, whose key is then used.
            path.hardlink_to(draft)
        except FileExistsError:
            pass
        except OSError as error:
            if error.errno not in _HAS_NO_LINKS:
                raise
            draft.rename(path)
