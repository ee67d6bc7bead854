"""The key that signs: one that was set, or one that was made at the first start and kept."""

import secrets
from pathlib import Path

from taskapp.config.parsers import secret_keys, text_in
from taskapp.config.settings import Settings, SettingsError


def load_secret_keys(settings: Settings) -> tuple[str, ...]:
    """Give the keys that sign, newest first; make one at the first start and keep it.

    Raises:
        SettingsError: the kept key cannot be read, made or trusted.
    """
    if settings.secret_key:
        return settings.secret_key
    path = settings.data_dir / "secret-key"
    try:
        _make_key(path)
        return secret_keys(text_in(path))
    except (OSError, ValueError) as error:
        raise SettingsError([f"The secret key in {path} cannot be used: {error}"]) from error


def _make_key(path: Path) -> None:
    """Write a new key, unless there is one, so that no other process sees half of it."""
    if path.exists():
        return
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    draft = path.with_name(f"{path.name}.{secrets.token_hex(8)}")
    draft.touch(mode=0o600, exist_ok=False)
    try:
        draft.write_text(secrets.token_urlsafe(48) + "\n", encoding="utf-8")
        path.hardlink_to(draft)
    except FileExistsError:
        return  # another process was first, and its key is as good
    finally:
        draft.unlink()
