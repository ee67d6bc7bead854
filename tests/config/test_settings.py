"""Settings are read from one table; all errors are reported at once; secrets are masked."""

import multiprocessing
import os
import re
import secrets
import stat
import subprocess
import sys
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import Field
from pathlib import Path
from typing import Any

import platformdirs
import pytest

from taskapp.config.environment import read_settings
from taskapp.config.installation import HOME
from taskapp.config.secret_key import load_secret_keys
from taskapp.config.settings import (
    MASK,
    SETTINGS,
    SettingsError,
    describe_settings,
    load_settings,
    variable,
)
from tests.support.environment import inherited_environment
from tests.support.server_process import PROGRAM, new_data_folder, ordinary_user

# Names and defaults are public: a change of one is a line in CHANGELOG.md.
DEFAULTS = {
    "TASKAPP_HOST": "127.0.0.1",
    "TASKAPP_PORT": "8000",
    "TASKAPP_DATA_DIR": "",
    "TASKAPP_DATABASE_URL": "",
    "TASKAPP_MIGRATION_DATABASE_URL": "",
    "TASKAPP_DATABASE_POOL": "10",
    "TASKAPP_BACKUP_EVERY": "24h",
    "TASKAPP_BACKUP_KEEP": "7",
    "TASKAPP_BACKUP_DIR": "",
    "TASKAPP_BACKUP_COMMAND": "",
    "TASKAPP_BACKUP_COMMAND_TIMEOUT": "1h",
    "TASKAPP_SECRET_KEY": "",
    "TASKAPP_SESSION_IDLE": "24h",
    "TASKAPP_BCRYPT_ROUNDS": "12",
    "TASKAPP_LOGIN_LIMIT": "5/15minute",
    "TASKAPP_ACCOUNT_LOGIN_LIMIT": "20/hour",
    "TASKAPP_SUCCESSFUL_LOGIN_LIMIT": "60/hour",
    "TASKAPP_REGISTRATION": "open",
    "TASKAPP_REGISTER_LIMIT": "20/hour",
    "TASKAPP_API_LIMIT": "100/15minute",
    "TASKAPP_PAGE_LIMIT": "600/15minute",
    "TASKAPP_MAX_TASKS": "200000",
    "TASKAPP_MAX_CHARACTERS": "200000000",
    "TASKAPP_LIMIT_STORAGE": "",
    "TASKAPP_TRUSTED_PROXIES": "",
    "TASKAPP_BASE_PATH": "/",
    "TASKAPP_PUBLIC_URL": "",
    "TASKAPP_ALLOWED_HOSTS": "",
    "TASKAPP_CORS_ORIGINS": "",
    "TASKAPP_LOG_FORMAT": "auto",
    "TASKAPP_LOG_LEVEL": "info",
    "TASKAPP_METRICS_ALLOW": "127.0.0.0/8,::1",  # loopback
    "TASKAPP_METRICS_PASSWORD": "",
    "TASKAPP_MAINTENANCE_FLAG": "",
    "TASKAPP_POSTGRESQL_BIN": "",
    "TASKAPP_CLIENT_URL": "",
    "TASKAPP_CLIENT_TOKEN": "",
    "OTEL_EXPORTER_OTLP_ENDPOINT": "",
    "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "",
    "OTEL_EXPORTER_OTLP_HEADERS": "",
    "OTEL_TRACES_EXPORTER": "otlp",
    "TASKAPP_TRACE_PARENTS": "",
}
KEY = "kMp4vX9qLz2Ws7Tn5Bf8Gh3Jd6Rc1Yae"
OTHER_KEY = "Zr8wQ2nE5tY7uI9oP1aS3dF4gH6jK0lX"
SECRETS = (
    "TASKAPP_DATABASE_URL",
    "TASKAPP_MIGRATION_DATABASE_URL",
    "TASKAPP_SECRET_KEY",
    "TASKAPP_LIMIT_STORAGE",
    "TASKAPP_CLIENT_TOKEN",
    "OTEL_EXPORTER_OTLP_HEADERS",
)


def problems(environment: Mapping[str, str]) -> list[str]:
    with pytest.raises(SettingsError) as refusal:
        load_settings(environment)
    return refusal.value.problems


def test_the_defaults_are_those_of_the_design() -> None:
    assert {variable(item.name): item.metadata["default"] for item in SETTINGS} == DEFAULTS


def test_without_any_variable_the_defaults_are_read() -> None:
    settings = load_settings({})
    assert settings.data_dir == HOME / "data"
    assert settings.uses_embedded_database
    assert not settings.is_https
    assert (settings.port, settings.session_idle, settings.base_path) == (8000, 86400, "")
    assert (settings.login_limit.amount, settings.login_limit.get_expiry()) == (5, 900)
    assert (settings.register_limit.amount, settings.register_limit.get_expiry()) == (20, 3600)
    assert (settings.api_limit.amount, settings.api_limit.get_expiry()) == (100, 900)
    assert load_settings(dict.fromkeys(DEFAULTS, " ")) == settings  # empty is as good as unset


def test_without_a_checkout_the_data_lies_where_the_user_keeps_data(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("taskapp.config.parsers.IS_CHECKOUT", False)
    assert load_settings({}).data_dir == platformdirs.user_data_path("taskapp")


SENTINELS = "redis+sentinel://:p%40ss@a.example:26379,b.example:26379/taskapp"


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("HOST", "::", "::"),
        ("HOST", "*", "*"),
        ("HOST", "unix:/run/taskapp.sock", "unix:/run/taskapp.sock"),
        ("HOST", "unix:socket", f"unix:{Path.cwd() / 'socket'}"),
        ("HOST", "unix:~/socket", f"unix:{Path.home() / 'socket'}"),
        ("PORT", "0", 0),
        ("PORT", "65535", 65535),
        ("DATA_DIR", "/srv/taskapp", Path("/srv/taskapp")),
        ("DATA_DIR", "here", Path.cwd() / "here"),
        ("DATA_DIR", "~/tasks", Path.home() / "tasks"),
        ("DATABASE_URL", "postgresql://u:p@host/db", "postgresql://u:p@host/db"),
        ("DATABASE_URL", "postgres://a:1,b:2/db", "postgres://a:1,b:2/db"),
        ("DATABASE_URL", "postgresql:///db?host=/run", "postgresql:///db?host=/run"),
        ("DATABASE_URL", "host=/run dbname=db", "host=/run dbname=db"),
        ("DATABASE_POOL", "500", 500),
        ("SECRET_KEY", KEY, (KEY,)),
        ("SECRET_KEY", f"{KEY} , {OTHER_KEY},", (KEY, OTHER_KEY)),
        ("SESSION_IDLE", "90s", 90),
        ("SESSION_IDLE", "45m", 2700),
        ("SESSION_IDLE", "7d", 604800),
        ("BACKUP_EVERY", "12h", 43200),
        ("BACKUP_EVERY", "off", 0),
        ("BACKUP_COMMAND", "", ()),
        ("BACKUP_COMMAND", "copy 'a b' \"$x\" > c", ("copy", "a b", "$x", ">", "c")),
        ("BACKUP_COMMAND_TIMEOUT", "10m", 600),
        ("BCRYPT_ROUNDS", "4", 4),
        ("MAX_TASKS", "0", 0),
        ("MAX_TASKS", "1000000000", 10**9),
        ("MAX_CHARACTERS", "1000000000000", 10**12),
        ("REGISTRATION", "closed", "closed"),
        ("LIMIT_STORAGE", "redis://:p@host:6379/0", "redis://:p@host:6379/0"),
        ("LIMIT_STORAGE", "rediss://host", "rediss://host"),
        ("LIMIT_STORAGE", SENTINELS, SENTINELS),
        ("LIMIT_STORAGE", "redis+unix:///run/redis.sock", "redis+unix:///run/redis.sock"),
        ("BASE_PATH", "/tasks/", "/tasks"),
        ("BASE_PATH", "/a/b-c_d.e~f", "/a/b-c_d.e~f"),
        ("PUBLIC_URL", "https://Tasks.example.com/", "https://tasks.example.com"),
        ("PUBLIC_URL", "https://tasks.example.com:443", "https://tasks.example.com"),
        ("PUBLIC_URL", "http://[::1]:80", "http://[::1]"),
        ("PUBLIC_URL", "http://localhost:8080", "http://localhost:8080"),
        ("CORS_ORIGINS", "https://a.org, http://b.org:1", {"https://a.org", "http://b.org:1"}),
        ("ALLOWED_HOSTS", "NAS.lan, taskapp-1", {"nas.lan", "taskapp-1"}),
        ("CLIENT_URL", "https://tasks.example.com/of-mine/", "https://tasks.example.com/of-mine"),
        ("CLIENT_URL", "http://[::1]:8000", "http://[::1]:8000"),
        ("CLIENT_TOKEN", "taskapp_a.b", "taskapp_a.b"),
        ("LOG_FORMAT", "json", "json"),
        ("LOG_LEVEL", "debug", "debug"),
    ],
)
def test_what_is_right_is_read(name: str, text: str, expected: object) -> None:
    settings = load_settings({f"TASKAPP_{name}": text})
    assert getattr(settings, name.lower()) == expected


def test_networks_of_both_kinds_and_unix_sockets_are_read() -> None:
    text = "127.0.0.1, 10.0.0.0/8,::1,2001:db8::/32, unix"
    settings = load_settings({"TASKAPP_TRUSTED_PROXIES": text, "TASKAPP_METRICS_ALLOW": text})
    assert settings.trusted_proxies == settings.metrics_allow
    assert [str(network) for network in settings.trusted_proxies] == [
        "127.0.0.1/32",
        "10.0.0.0/8",
        "::1/128",
        "2001:db8::/32",
        "unix",
    ]


WRONG = [
    ("HOST", "unix:", "unix:/run/taskapp/socket"),
    ("HOST", "unix: ", "unix:/run/taskapp/socket"),
    ("HOST", "unix:~nobody-of-this-name/socket", "home"),
    ("PORT", "65536", "from 0 to 65535"),
    ("PORT", "-1", "from 0 to 65535"),
    ("PORT", "http", "from 0 to 65535"),
    ("PORT", "٨٠٠٠", "from 0 to 65535"),
    ("PORT", "9" * 5000, "from 0 to 65535"),
    ("DATA_DIR", "~nobody-of-this-name/data", "home"),
    ("DATABASE_URL", "mysql://host/db", "postgresql://"),
    ("DATABASE_URL", "localhost/database", "postgresql://"),
    ("DATABASE_POOL", "0", "from 1 to 500"),
    ("DATABASE_POOL", "501", "from 1 to 500"),
    ("DATABASE_POOL", "1e2", "from 1 to 500"),
    ("SECRET_KEY", "x" * 31, "32 characters"),
    ("SECRET_KEY", f"{KEY},{KEY[:31]}", "32 characters"),
    ("SECRET_KEY", ",", "32 characters"),
    ("SECRET_KEY", "a" * 64, "too easy to guess"),
    ("SECRET_KEY", "secret" * 6, "too easy to guess"),
    ("SECRET_KEY", "changeme-changeme-changeme-change", "too easy to guess"),
    ("SECRET_KEY", f"{KEY},{'Password' * 5}", "too easy to guess"),
    ("SECRET_KEY", "your-secret-key-please-change-it-now", "too easy to guess"),
    ("SECRET_KEY", "__TODO:_GENERATE_YOUR_OWN_RANDOM_VALUE_HERE__", "too easy to guess"),
    ("SECRET_KEY", "0123456789" * 4, "too easy to guess"),
    ("SESSION_IDLE", "24", "45m, 24h or 7d"),
    ("SESSION_IDLE", "0h", "45m, 24h or 7d"),
    ("SESSION_IDLE", "-1h", "45m, 24h or 7d"),
    ("SESSION_IDLE", "1w", "45m, 24h or 7d"),
    ("BACKUP_EVERY", "never", "45m, 24h or 7d, or off"),
    ("BACKUP_COMMAND", "rclone 'sync", "a quote or a backslash"),
    ("BACKUP_COMMAND", "rclone \\", "a quote or a backslash"),
    ("BACKUP_COMMAND_TIMEOUT", "off", "45m, 24h or 7d"),
    ("CLIENT_URL", "tasks.example.com", "https://tasks.example.com"),
    ("CLIENT_URL", "ftp://tasks.example.com", "https://tasks.example.com"),
    ("CLIENT_URL", "https://me:pass@tasks.example.com", "https://tasks.example.com"),
    ("CLIENT_URL", "https://tasks.example.com/?a=b", "https://tasks.example.com"),
    ("CLIENT_TOKEN", "two words", "as the account page shows it"),
    ("CLIENT_TOKEN", "a\r\nHost: b", "as the account page shows it"),
    ("BCRYPT_ROUNDS", "3", "from 4 to 16"),
    ("BCRYPT_ROUNDS", "17", "from 4 to 16"),
    ("LOGIN_LIMIT", "5", "5/15minute"),
    ("LOGIN_LIMIT", "0/minute", "5/15minute"),
    ("REGISTER_LIMIT", "5/minute;20/hour", "5/15minute"),
    ("API_LIMIT", "many/day", "5/15minute"),
    ("REGISTRATION", "Closed", "open, closed"),
    ("LIMIT_STORAGE", "memcached://host", "redis://"),
    ("LIMIT_STORAGE", "redis://host:port/0", "redis://"),
    ("LIMIT_STORAGE", "redis+sentinel://a:26379,b:26379", "redis+sentinel://"),
    ("LIMIT_STORAGE", "redis+sentinel://a,b/taskapp", "redis+sentinel://"),
    ("TRUSTED_PROXIES", "10.0.0.1/8", "10.0.0.0/8"),
    ("TRUSTED_PROXIES", "localhost", "127.0.0.1"),
    ("BASE_PATH", "tasks", "such as /"),
    ("BASE_PATH", "//evil", "such as /"),
    ("BASE_PATH", "/a/../b", "such as /"),
    ("BASE_PATH", "/a b", "such as /"),
    ("PUBLIC_URL", "tasks.example.com", "https://tasks.example.com"),
    ("PUBLIC_URL", "https://tasks.example.com/app", "https://tasks.example.com"),
    ("PUBLIC_URL", "https://tasks.example.com?x=1", "https://tasks.example.com"),
    ("PUBLIC_URL", "https://me:pass@tasks.example.com", "https://tasks.example.com"),
    ("PUBLIC_URL", "https://tasks.example.com:99999", "https://tasks.example.com"),
    ("PUBLIC_URL", "https://[::1", "https://tasks.example.com"),
    ("PUBLIC_URL", "https://b\u00fccher.example", "https://xn--bcher-kva.example"),
    ("CORS_ORIGINS", "https://a.example, https://b\u00fccher.example", "https://xn--bcher-kva"),
    # Python 3.11.0 to 3.11.3 split these without an error.
    ("PUBLIC_URL", "https://[tasks.example.com]", "https://tasks.example.com"),
    ("PUBLIC_URL", "https://[127.0.0.1]", "https://tasks.example.com"),
    ("LIMIT_STORAGE", "redis://[cache.example.com]:6379/0", "redis://"),
    ("CORS_ORIGINS", "*", "https://tasks.example.com"),
    ("CORS_ORIGINS", "https://a.org,b.org", "https://tasks.example.com"),
    ("LOG_FORMAT", "xml", "auto, text, json"),
    ("LOG_LEVEL", "trace", "debug, info, warning, error"),
    ("METRICS_ALLOW", "everybody", "127.0.0.1"),
    ("ALLOWED_HOSTS", "https://nas.lan", "nas.lan"),
    ("ALLOWED_HOSTS", "nas.lan:8000", "without ports"),
]


@pytest.mark.parametrize(("name", "text", "fix"), WRONG)
def test_what_is_wrong_is_refused_with_the_fix(name: str, text: str, fix: str) -> None:
    [problem] = problems({f"TASKAPP_{name}": text})
    assert problem.startswith(f"TASKAPP_{name}: ")
    assert fix in problem


@pytest.mark.parametrize("item", SETTINGS, ids=lambda item: item.name)
def test_a_nul_character_is_refused_in_every_setting(item: Field[Any]) -> None:
    name = variable(item.name)
    [problem] = problems({name: "/srv/ta\0sks"})
    assert problem == f"{name}: has a NUL character; save the file .env as plain text"


def test_all_that_is_wrong_is_listed_at_once() -> None:
    wrong = {f"TASKAPP_{name}": text for name, text, _ in WRONG} | {"TASKAPP_COLOUR": "blue"}
    found = problems(wrong)
    assert {problem.partition(":")[0] for problem in found} == set(wrong)
    assert len(found) == len(wrong)


# What Kubernetes sets for Services of these names, and Docker for links.
SERVICE_LINKS = {
    "TASKAPP_PORT": "tcp://10.43.12.7:8000",
    "TASKAPP_SERVICE_HOST": "10.43.12.7",
    "TASKAPP_SERVICE_PORT": "8000",
    "TASKAPP_SERVICE_PORT_HTTP": "8000",
    "TASKAPP_PORT_8000_TCP": "tcp://10.43.12.7:8000",
    "TASKAPP_PORT_8000_TCP_ADDR": "10.43.12.7",
    "TASKAPP_PORT_8000_TCP_PORT": "8000",
    "TASKAPP_PORT_8000_TCP_PROTO": "tcp",
    "TASKAPP_PORT_514_UDP": "udp://10.43.12.7:514",
    "TASKAPP_PORT_36412_SCTP_PROTO": "sctp",
    "TASKAPP_DB_SERVICE_HOST": "fd00::7",
    "TASKAPP_DB_SERVICE_PORT_POSTGRESQL": "5432",
    "TASKAPP_DB_PORT": "tcp://[fd00::7]:5432",
    "TASKAPP_DB_PORT_5432_TCP_ADDR": "fd00::7",
    "TASKAPP_NAME": "/nginx/taskapp",
    "TASKAPP_DB_NAME": "/taskapp/db",
    "TASKAPP_DB_ENV_POSTGRES_PASSWORD": "secret\nof another container",
    "TASKAPP_1_PORT": "udp://172.17.0.2:514",
    "TASKAPP_ENV_PATH": "/usr/bin",
}


def test_what_kubernetes_and_docker_set_for_a_service_is_no_setting(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    Path(".env").write_text("TASKAPP_PORT=8080\n")  # counts, for the other is not ours
    for name, text in SERVICE_LINKS.items():
        monkeypatch.setenv(name, text)
    assert read_settings().port == 8080


@pytest.mark.parametrize("name", ["PORTS", "SERVICE", "PORT_8000", "NAME", "SERVICE_PORTS", "DB"])
def test_what_only_looks_like_it_is_refused(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(f"TASKAPP_{name}", "8000")
    with pytest.raises(SettingsError, match=f"TASKAPP_{name}: unknown setting"):
        read_settings()


def run_settings_in(folder: Path, user: dict[str, Any], *, closed: bool) -> tuple[int, str]:
    """Run the command as a user, from a folder entered before it is closed to that user."""
    become = ["env"]
    if user:
        become = [
            "setpriv",
            f"--reuid={user['user']}",
            f"--regid={user['group']}",
            "--clear-groups",
        ]
    folder.mkdir(exist_ok=True)
    command = [*become, sys.executable, str(PROGRAM), "settings"]
    mode = 0o700 if user else 0
    script = f'cd "$0"; chmod {mode if closed else 0o755:o} .; exec "$@"'
    done = subprocess.run(
        ["sh", "-ec", script, folder, *command],
        env=inherited_environment() | {"TASKAPP_DATA_DIR": "/nowhere"},
        capture_output=True,
        text=True,
        check=False,
    )
    folder.chmod(0o700)
    return done.returncode, done.stderr


def test_a_folder_that_the_user_may_not_enter_has_no_env_file() -> None:
    """`sudo -u taskapp ... doctor` is typed in root's own folder."""
    with new_data_folder() as data, ordinary_user(data) as user:
        folder = data.parent / "of-root"
        assert run_settings_in(folder, user, closed=True) == (0, "")
        (folder / ".env").write_text("TASKAPP_PORT=8080\n")
        (folder / ".env").chmod(0)
        assert run_settings_in(folder, user, closed=True) == (0, "")
        code, said = run_settings_in(folder, user, closed=False)
        assert (code, "The file .env cannot be read: " in said) == (2, True), said


HOMELESS = """
from taskapp.config import parsers
parsers.IS_CHECKOUT = False
print(parsers.data_dir(""))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="user namespaces are Linux's")
def test_a_user_without_a_home_folder_has_to_name_the_data_folder() -> None:
    nameless = ["unshare", "--user", "--map-user=54321", "env", "--unset=HOME"]
    done = subprocess.run(
        [*nameless, sys.executable, "-c", HOMELESS],
        cwd=HOME,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stderr.endswith("cannot determine the home folder; set this to a path\n")


def test_a_name_that_is_no_setting_is_refused_and_others_are_not_ours() -> None:
    assert problems({"TASKAPP_SECRETKEY": "x", "TASKAPP_PORT_FILE": "y", "PATH": "/bin"}) == [
        "TASKAPP_PORT_FILE: unknown setting; see `python server.py settings`",
        "TASKAPP_SECRETKEY: unknown setting; see `python server.py settings`",
    ]


@pytest.mark.parametrize(
    "text", ["postgresql://u:s3cret\N{ACCOUNT OF}@host/db", "mysql://u:s3cret@[host/db"]
)
@pytest.mark.parametrize("name", ["DATABASE_URL", "LIMIT_STORAGE"])
def test_a_refusal_does_not_tell_the_secret(name: str, text: str) -> None:
    environment = {f"TASKAPP_{name}": text}
    try:
        load_settings(environment)
    except SettingsError as refusal:
        assert "s3cret" not in str(refusal)  # noqa: PT017  # some are left to libpq to refuse


def test_a_secret_may_stand_in_a_file(tmp_path: Path) -> None:
    values = (
        *("postgresql://u:p@host/db", "postgresql://o:p@host/db"),
        *(KEY, "redis://:p@host", "taskapp_a.b", "api-key=of-ours"),
    )
    environment = {}
    for name, value in zip(SECRETS, values, strict=True):
        path = tmp_path / name
        path.write_text(f"{value}\n")
        path.chmod(0o600)
        environment[f"{name}_FILE"] = str(path)
    settings = load_settings(environment)
    assert (settings.database_url, settings.migration_database_url) == values[:2]
    assert (settings.secret_key, settings.limit_storage) == ((KEY,), values[3])
    assert (settings.client_token, settings.otlp_headers) == values[4:]


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o666])
def test_a_token_in_a_file_that_others_can_open_is_refused(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "token"
    path.write_text("taskapp_a.b")
    path.chmod(mode)
    [problem] = problems({"TASKAPP_CLIENT_TOKEN_FILE": str(path)})
    assert problem == (
        f"TASKAPP_CLIENT_TOKEN: {path} is open to other users; run: chmod 600 {path}"
    )


@pytest.mark.parametrize("name", SECRETS)
def test_a_file_that_cannot_be_used_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "empty").write_text("\n")
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    (tmp_path / "endless").symlink_to("/dev/zero")
    (tmp_path / "long").write_text("x" * 100_000)
    for path in ("nothing", "empty", "binary", ".", "endless", "long"):
        [problem] = problems({f"{name}_FILE": str(tmp_path / path)})
        assert problem.startswith(f"{name}: ")
        assert str(tmp_path / path) in problem


@pytest.mark.parametrize("name", SECRETS)
def test_a_secret_given_twice_is_refused(tmp_path: Path, name: str) -> None:
    path = tmp_path / "secret"
    path.write_text(KEY)
    [problem] = problems({name: KEY, f"{name}_FILE": str(path)})
    assert problem == f"{name}: conflicts with {name}_FILE; set only one of them"


def test_settings_are_described_without_their_secrets(tmp_path: Path) -> None:
    path = tmp_path / "key"
    path.write_text(KEY)
    settings = load_settings(
        {
            "TASKAPP_DATABASE_URL": "postgresql://u:s3cret@host/db",
            "TASKAPP_MIGRATION_DATABASE_URL": "postgresql://o:s3cret@host/db",
            "TASKAPP_SECRET_KEY_FILE": str(path),
            "TASKAPP_LIMIT_STORAGE": "redis://:s3cret@host",
            "TASKAPP_CLIENT_TOKEN": "taskapp_s3cret",
            "OTEL_EXPORTER_OTLP_HEADERS": "api-key=s3cret",
            "TASKAPP_PORT": "8080",
            "TASKAPP_DATA_DIR": str(tmp_path),
        }
    )
    rows = describe_settings(settings)
    shown = {name: text for name, text, _ in rows}
    assert shown == DEFAULTS | dict.fromkeys(SECRETS, MASK) | {
        "TASKAPP_PORT": "8080",
        "TASKAPP_DATA_DIR": str(tmp_path),
    }
    assert all(meaning for _, _, meaning in rows)
    for text in (str(rows), repr(settings)):
        assert "s3cret" not in text
        assert KEY not in text
    assert {name: text for name, text, _ in describe_settings(load_settings({}))} == (
        DEFAULTS | {"TASKAPP_DATA_DIR": str(HOME / "data")}
    )


def test_random_keys_are_never_taken_for_well_known() -> None:
    for _ in range(500):
        for key in (secrets.token_urlsafe(32), secrets.token_hex(32)):
            assert load_settings({"TASKAPP_SECRET_KEY": key}).secret_key == (key,)


def _keys_in(folder: str) -> tuple[str, ...]:
    return load_secret_keys(load_settings({"TASKAPP_DATA_DIR": folder}))


def test_processes_that_start_at_once_agree_on_one_key(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(8, mp_context=context) as pool:
        found = set(pool.map(_keys_in, [str(folder)] * 32))
    [(key,)] = found
    assert re.fullmatch(r"[\w-]{64}", key)
    assert [path.name for path in folder.iterdir()] == ["secret-key"]
    assert stat.S_IMODE((folder / "secret-key").stat().st_mode) == 0o600
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert _keys_in(str(folder)) == (key,)


WITHOUT_LINKS = """
import os, sys
def refuse(event, arguments):
    if event == "os.link":
        raise PermissionError(1, "Operation not permitted")
sys.addaudithook(refuse)
from taskapp.config.secret_key import load_secret_keys
from taskapp.config.settings import load_settings
print(*load_secret_keys(load_settings(dict(TASKAPP_DATA_DIR=sys.argv[1]))))
"""


def test_a_key_is_made_where_no_file_can_have_two_names(tmp_path: Path) -> None:
    """As on exFAT and SMB."""
    command = [sys.executable, "-c", WITHOUT_LINKS, str(tmp_path)]
    first = subprocess.run(command, cwd=HOME, capture_output=True, check=True).stdout
    assert len(first) > 32
    assert subprocess.run(command, cwd=HOME, capture_output=True, check=True).stdout == first
    assert [path.name for path in tmp_path.iterdir()] == ["secret-key"]


def test_a_key_is_made_at_the_first_start_and_kept(tmp_path: Path) -> None:
    first = _keys_in(str(tmp_path / "one"))
    assert _keys_in(str(tmp_path / "one")) == first != _keys_in(str(tmp_path / "other"))


def test_a_key_that_is_set_needs_no_file(tmp_path: Path) -> None:
    settings = load_settings({"TASKAPP_DATA_DIR": str(tmp_path), "TASKAPP_SECRET_KEY": KEY})
    assert load_secret_keys(settings) == (KEY,)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("kept", ["", "\n", "short", "secret" * 8, "\udcff"])
def test_a_kept_key_that_cannot_be_trusted_is_refused_by_name(tmp_path: Path, kept: str) -> None:
    path = tmp_path / "secret-key"
    path.write_text(kept, errors="surrogateescape")
    with pytest.raises(SettingsError, match=f"The secret key in {path} cannot be used: "):
        _keys_in(str(tmp_path))


def test_a_data_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(SettingsError, match=r"file/data/secret-key cannot be used: .+"):
        _keys_in(str(tmp_path / "file" / "data"))


def test_a_secret_comes_through_a_pipe_and_one_that_nobody_writes_to_blocks_no_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe, 0o600)
    with subprocess.Popen(["sh", "-c", 'printf %s "$1" >"$2"', "sh", KEY, str(pipe)]):
        assert load_settings({"TASKAPP_SECRET_KEY_FILE": str(pipe)}).secret_key == (KEY,)
    monkeypatch.setattr("taskapp.config.parsers.PIPE_TIMEOUT", 0.1)
    [problem] = problems({"TASKAPP_SECRET_KEY_FILE": str(pipe)})
    assert problem == f"TASKAPP_SECRET_KEY: {pipe} is a pipe that nobody writes to"


def test_a_file_of_settings_that_is_too_long_is_not_read_to_its_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with Path(".env").open("wb") as file:
        file.truncate(2**40)  # bytes, none of them on the disk
    with pytest.raises(SettingsError) as caught:
        read_settings()
    assert caught.value.problems == ["The file .env is longer than 1,000,000 characters"]
