"""Two processes start on one empty folder: one serves, the other explains why it does not."""

from pathlib import Path

from tests.support.server_process import ServerProcess, server_process, wait_until


def test_of_two_that_start_together_one_serves_and_the_other_says_who_does(folder: Path) -> None:
    with server_process(folder) as one, server_process(folder) as other:
        pair = (one, other)
        wait_until(lambda: any(server.process.poll() is not None for server in pair))
        loser, winner = sorted(pair, key=has_ended, reverse=True)
        assert loser.process.returncode == 1
        assert f"in use by process {winner.pid}. Stop that one first" in loser.log_text
        with winner.wait_until_ready().client() as alice:
            alice.sign_up("alice@example.com")
            assert alice.send("POST", "/api/tasks", {"title": "Buy milk"}).status == 201
        assert winner.end() == 0
    with server_process(folder) as server, server.wait_until_ready().client() as alice:
        alice.log_in("alice@example.com")
        assert alice.titles() == ["Buy milk"]


def has_ended(server: ServerProcess) -> bool:
    return server.process.poll() is not None
