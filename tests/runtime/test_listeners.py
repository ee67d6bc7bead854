"""The process listens where it is told to: at an address, a Unix socket, or systemd's socket."""

import errno
import gc
import os
import socket
import stat
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import cast

import pytest

from taskapp.config.settings import load_settings
from taskapp.runtime.listeners import (
    ListenError,
    describe_sockets,
    fix_for,
    listening_sockets,
)
from tests.support.server_process import (
    CHECKOUT,
    LONG_ENOUGH,
    SYSTEMD,
    Client,
    new_data_folder,
    server_process,
)

WITHOUT_IPV6 = [sys.executable, str(CHECKOUT / "tests" / "support" / "without_ipv6.py")]
needs_linux = pytest.mark.skipif(sys.platform != "linux", reason="Linux has what this is about")


@pytest.fixture
def data_folder() -> Iterator[Path]:
    with new_data_folder() as folder:
        yield folder


def listen(**changes: str) -> tuple[list[socket.socket], str]:
    settings = load_settings({f"TASKAPP_{name}": value for name, value in changes.items()})
    sockets = listening_sockets(settings)
    return sockets, describe_sockets(settings, sockets)


def close(sockets: list[socket.socket]) -> None:
    for one in sockets:
        one.close()


def refusal(**changes: str) -> str:
    with pytest.raises(ListenError) as caught:
        listen(**changes)
    return str(caught.value)


@pytest.mark.parametrize(
    ("changes", "start"),
    [
        ({}, "http://127.0.0.1:"),
        ({"HOST": "::1"}, "http://[::1]:"),
        ({"HOST": "[::1]"}, "http://[::1]:"),
        ({"HOST": "*"}, "http://0.0.0.0:"),
        ({"BASE_PATH": "/tasks"}, "http://127.0.0.1:"),
        (
            {"PUBLIC_URL": "https://tasks.example.com", "BASE_PATH": "/mine"},
            "https://tasks.example",
        ),
    ],
)
def test_people_are_told_an_address_that_they_can_open(changes: dict[str, str], start: str) -> None:
    sockets, where = listen(PORT="0", **changes)
    close(sockets)
    assert where.startswith(start)
    assert where.endswith(changes.get("BASE_PATH", ""))


@pytest.mark.parametrize(
    "host",
    [
        "192.0.2.1",
        "no-such-host.invalid",
        "a" * 64 + ".example",
        "127.0.0.1:8000",
        "http://0.0.0.0",
        "0.0.0.0,::",
    ],
)
@pytest.mark.filterwarnings("ignore::ResourceWarning")  # Tornado leaves its socket to the collector
def test_an_address_that_is_not_ours_is_named(host: str) -> None:
    sentence = refusal(HOST=host)
    assert sentence.startswith(f"Cannot listen on {host}, port 8000: ")
    assert sentence.endswith("Set TASKAPP_HOST to an address of this machine, without its port.")
    gc.collect()


def test_a_port_that_this_user_may_not_take_is_not_said_to_be_in_use() -> None:
    forbidden = PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    assert "a port from 1024 on" in fix_for(forbidden, load_settings({"TASKAPP_PORT": "80"}))
    in_a_folder = load_settings({"TASKAPP_HOST": "unix:/run/taskapp/socket"})
    assert "TASKAPP_PORT to a port" not in fix_for(forbidden, in_a_folder)


def test_a_socket_that_nobody_serves_any_more_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "sock"
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(path))
    sockets, where = listen(HOST=f"unix:{path}")
    assert where == f"the socket {path}"
    assert stat.S_IMODE(path.stat().st_mode) == 0o666
    close(sockets)


def test_a_socket_that_is_served_is_left_to_its_server(tmp_path: Path) -> None:
    path = tmp_path / "sock"
    with socket.socket(socket.AF_UNIX) as first:
        first.bind(str(path))
        first.listen()
        assert refusal(HOST=f"unix:{path}") == (
            f"Cannot listen on the socket {path}: Address already in use. "
            "Stop what listens there, or set TASKAPP_HOST and TASKAPP_PORT."
        )
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(path))


def test_a_path_that_cannot_be_a_socket_is_refused_with_the_reason(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert "Address already in use" in refusal(HOST=f"unix:{tmp_path}/file")
    assert "No such file or directory" in refusal(HOST=f"unix:{tmp_path}/no/folder")
    assert "too long" in refusal(HOST=f"unix:/{'x' * 120}")


def test_a_folder_is_no_socket_and_keeps_its_mode(tmp_path: Path) -> None:
    mode = tmp_path.stat().st_mode
    assert "Is a directory" in refusal(HOST=f"unix:{tmp_path}")
    assert tmp_path.stat().st_mode == mode


def test_a_star_listens_on_both_families_and_colons_on_ipv6_alone() -> None:
    for host, families in (
        ("*", {socket.AF_INET, socket.AF_INET6}),
        ("0.0.0.0", {socket.AF_INET}),  # noqa: S104  # for a moment
        ("::", {socket.AF_INET6}),
    ):
        sockets, _ = listen(HOST=host, PORT="0")
        close(sockets)
        assert {each.family for each in sockets} == families


@needs_linux
@pytest.mark.parametrize("host", ["*", "localhost", "0.0.0.0", "::", "::1"])  # noqa: S104  # as above
def test_without_ipv6_it_listens_on_ipv4_or_says_what_is_missing(
    host: str, database_url: str, data_folder: Path
) -> None:
    settings = {"TASKAPP_HOST": host, "TASKAPP_DATABASE_URL": database_url}
    with server_process(
        data_folder, settings=settings, launcher=[*WITHOUT_IPV6, sys.executable]
    ) as server:
        if ":" not in host:
            assert server.wait_until_ready().end() == 0
            return
        assert server.process.wait(LONG_ENOUGH) == 1
        assert server.log_text == (
            f"Cannot listen on {host}, port {server.address}: this machine has no IPv6. "
            "Set TASKAPP_HOST to an address of this machine, without its port.\n"
        )


def test_a_number_of_sockets_that_is_none_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LISTEN_PID", str(os.getpid()))
    for count in ("one", "", "1000000"):
        monkeypatch.setenv("LISTEN_FDS", count)
        assert refusal().startswith("Cannot listen on the sockets of LISTEN_FDS: ")


def datagrams() -> socket.socket:
    passed = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    passed.bind(("127.0.0.1", 0))
    return passed


def packets() -> socket.socket:
    passed = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    passed.bind("")  # a name of the kernel's choice
    passed.listen()
    return passed


def bound_only() -> socket.socket:
    passed = socket.socket()
    passed.bind(("127.0.0.1", 0))
    return passed


def connected() -> socket.socket:
    one, other = socket.socketpair()
    other.close()
    return one  # as with Accept=yes


def no_socket() -> socket.socket:
    read, write = os.pipe()
    os.close(write)
    return cast("socket.socket", os.fdopen(read))


@needs_linux
@pytest.mark.parametrize("passed", [datagrams, packets, bound_only, connected, no_socket])
def test_what_is_passed_but_does_not_accept_connections_is_refused(
    passed: Callable[[], socket.socket], data_folder: Path
) -> None:
    with closing(passed()) as descriptor:
        number = descriptor.fileno()
        launcher = [sys.executable, "-c", SYSTEMD, str(number)]
        with server_process(data_folder, launcher=launcher, pass_fds=[number]) as server:
            assert server.process.wait(LONG_ENOUGH) == 1
            assert server.log_text.startswith("Cannot listen on the sockets of LISTEN_FDS: ")
            assert server.log_text.endswith(
                "Give the .socket unit a ListenStream=, and no Accept=yes.\n"
            )
            assert len(server.log_text.splitlines()) == 1


def test_an_abstract_socket_of_systemd_is_named_as_it_names_it() -> None:
    with socket.socket(socket.AF_UNIX) as abstract:
        abstract.bind("\0taskapp")
        assert describe_sockets(load_settings({}), [abstract]) == "the socket @taskapp"


def test_sockets_that_were_passed_to_another_process_are_left_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("LISTEN_PID", str(os.getppid()))
    monkeypatch.setenv("LISTEN_FDS", "1")
    sockets, where = listen(PORT="0")
    close(sockets)
    assert where.startswith("http://127.0.0.1:")


def test_the_server_serves_on_a_unix_socket_and_again_after_it_was_killed(
    database_url: str, data_folder: Path
) -> None:
    path = data_folder.parent / "sock"
    settings = {"TASKAPP_HOST": f"unix:{path}", "TASKAPP_DATABASE_URL": database_url}
    for _ in range(2):
        with server_process(data_folder, settings=settings) as server:
            server.wait_until_ready()
            assert f"taskapp is ready at the socket {path}" in server.said
            assert server.client().status("/api/health") == 200
            server.process.kill()
    with server_process(data_folder, settings=settings) as server:
        assert server.wait_until_ready().end() == 0
        assert server.complaints() == []


def test_the_server_serves_on_the_socket_that_systemd_passes(
    database_url: str, data_folder: Path
) -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as passed,
        closing(Client(str(passed.getsockname()[1]))) as client,
        server_process(
            data_folder,
            settings={"TASKAPP_DATABASE_URL": database_url},
            launcher=[sys.executable, "-c", SYSTEMD, str(passed.fileno())],
            pass_fds=[passed.fileno()],
        ) as server,
    ):
        assert client.status("/api/health") in {200, 503}  # systemd's socket holds it until then
        server.address = client.address
        server.wait_until_ready()
        assert f"http://127.0.0.1:{client.address}" in server.said
        assert client.status("/api/health/ready") == 200
        assert server.end() == 0
        assert server.complaints() == []
