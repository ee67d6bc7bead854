"""The ETag of a list is another whenever the list is, and a list that is known is not sent."""

import random
from dataclasses import dataclass, field

import pytest

from taskapp.config.settings import Settings
from tests.conftest import PASSWORD
from tests.support.api_tools import assert_problem, running
from tests.support.clients import ApiClient, Response
from tests.support.database_fixtures import execute

pytestmark = [pytest.mark.gen_test, pytest.mark.usefixtures("app")]

OTHER = '"00000000000000000000000000000000"'  # of the form of ours
OLD_KEY, NEW_KEY = "the-old-key-of-32-characters-and-more", "the-new-key-of-32-characters-and-more"


async def get_list(client: ApiClient, path: str, known: str | None = None) -> Response:
    headers = {} if known is None else {"If-None-Match": known}
    return await client.get(path, headers=headers)


def assert_not_modified(response: Response, etag: str) -> None:
    assert (response.status, response.body) == (304, b"")
    assert response.headers["ETag"] == etag


@dataclass
class Watched:
    """A list that is looked at after every step, with each body that was shown under an ETag."""

    client: ApiClient
    path: str
    bodies: dict[str, bytes] = field(default_factory=dict)
    last: str = OTHER

    async def look(self) -> Response:
        """Check that the three ways to ask for the list agree, with each other and with before."""
        full = await get_list(self.client, self.path)
        etag, body = full.headers["ETag"], full.response.body
        assert (full.status, self.bodies.setdefault(etag, body)) == (200, body), self.path

        missed = await get_list(self.client, self.path, OTHER)
        assert (missed.status, missed.response.body) == (200, body)
        assert [missed.headers.get(name) for name in ("ETag", "Link", "Content-Type")] == [
            full.headers.get(name) for name in ("ETag", "Link", "Content-Type")
        ]

        assert_not_modified(await get_list(self.client, self.path, etag), etag)
        again = await get_list(self.client, self.path, self.last)
        assert again.status == (304 if self.last == etag else 200)
        self.last = etag
        return full


class Walk:
    """Takes steps by chance, the same for the same seed, through what users do to their lists."""

    def __init__(self, alice: ApiClient, bob: ApiClient, seed: int) -> None:
        """Begin with lists of every kind."""
        self.chance = random.Random(seed)  # noqa: S311  # it keeps no secret
        self.users = [alice, alice, bob]
        self.tasks: list[tuple[ApiClient, str]] = []
        self.by_twos = Watched(alice, "/api/tasks?limit=2")
        queries = ("", "?status=pending", "?status=completed&limit=1")
        self.lists = [Watched(alice, f"/api/tasks{query}") for query in queries]
        self.lists += [self.by_twos, Watched(bob, "/api/tasks?limit=100")]

    async def create(self) -> None:
        who = self.chance.choice(self.users)
        task = await who.add_task(status=self.chance.choice(["pending", "completed"]))
        self.tasks.append((who, f"/api/tasks/{task['id']}"))

    async def change(self, **fields: str) -> None:
        who, path = self.chance.choice(self.tasks)
        assert (await who.put(path, fields)).status == 200

    async def edit(self) -> None:
        await self.change(title=f"Buy bread {self.chance.random()}")

    async def complete(self) -> None:
        await self.change(status="completed")

    async def delete(self) -> None:
        who, path = self.tasks.pop(self.chance.randrange(len(self.tasks)))
        assert (await who.delete(path)).status == 200

    async def page(self) -> None:
        """Watch the second page of a list too, if it has one."""
        cursor = (await self.by_twos.look()).json["nextCursor"]
        if cursor and len(self.lists) < 8:
            path = f"{self.by_twos.path}&after={cursor}"
            self.lists.append(Watched(self.by_twos.client, path))

    async def step(self) -> None:
        more = [self.edit, self.complete, self.delete, self.page]
        await self.chance.choice([self.create, self.create, *(more if self.tasks else [])])()


@pytest.mark.parametrize("seed", range(2))
async def test_every_change_of_a_list_is_a_change_of_its_etag(
    alice: ApiClient, bob: ApiClient, seed: int
) -> None:
    walk = Walk(alice, bob, seed)
    for _ in range(6):
        await walk.create()
    await walk.page()
    for _ in range(30):
        await walk.step()
        for watched in walk.lists:
            await watched.look()
    assert len(walk.lists) > 5
    assert all(len(watched.bodies) > 1 for watched in walk.lists[:5])


TIMESTAMPS = [
    "2026-02-02 10:00:00+00",
    "2026-02-02 10:00:00.1+00",
    "2026-02-02 10:00:00.120000+00",
    "2026-02-02 10:00:00.000001+00",
    "2026-02-02 00:00:00.123456+02",
    "2026-07-01 23:59:59.999999-11:30",
    "0033-04-03 15:00:00+00",
]


async def test_the_version_is_the_same_however_a_moment_is_written(
    settings: Settings, alice: ApiClient
) -> None:
    task = await alice.add_task()
    await alice.add_task()
    watched = Watched(alice, "/api/tasks")
    for timestamp in TIMESTAMPS:
        execute(
            settings.database_url,
            "UPDATE tasks SET updated_at = %s WHERE id = %s",
            *(timestamp, task["id"]),
        )
        await watched.look()
    assert len(watched.bodies) == len(TIMESTAMPS)


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("tasks", [0, 3])
async def test_a_list_is_known_by_any_tag_that_names_it(
    alice: ApiClient, method: str, tasks: int
) -> None:
    for _ in range(tasks):
        await alice.add_task()
    path = "/api/tasks?limit=2"
    full = await alice.send(method, path)
    etag = full.headers["ETag"]
    many = ", ".join(f'"{number:032x}"' for number in range(400))  # 14 KB: near the limit
    for known in [
        *(etag, f"W/{etag}", f'"other", {etag}', f'{OTHER},W/"x" ,  W/{etag}', "*", " * "),
        f"{many}, {etag}",
        f"not a tag, {etag}",
    ]:
        response = await alice.send(method, path, headers={"If-None-Match": known})
        assert_not_modified(response, etag)
    digest = etag.strip('"')
    for unknown in [
        *("", ",", '"', '""', OTHER, f"W/{OTHER}", many, "**", '"*"', f"*, {OTHER}"),
        *(digest, f"'{digest}'", f'"{digest}', f'{digest}"', f"w/{etag}", f"W/W/{etag}"),
        *(etag.upper(), f'"{digest[:-1]}"', f'" {digest}"', f'"{digest}é"'),
    ]:
        response = await alice.send(method, path, headers={"If-None-Match": unknown})
        assert (response.status, response.body) == (200, full.response.body), unknown
        assert response.headers["ETag"] == etag


async def test_a_list_that_is_known_is_refused_when_the_session_has_ended(
    api: ApiClient, alice: ApiClient, bob: ApiClient
) -> None:
    await alice.add_task()
    etags = {}
    for who in (alice, bob):
        etags[who.email] = (await get_list(who, "/api/tasks")).headers["ETag"]
    other_session = await api.log_in(alice.email, PASSWORD)
    for who in (alice, bob):
        assert (await who.post("/api/auth/logout")).status == 200
        for known in (etags[who.email], OTHER, "*"):
            assert_problem(await get_list(who, "/api/tasks", known), 401)
    etag = etags[alice.email]
    assert_not_modified(await get_list(other_session, "/api/tasks", etag), etag)


async def test_the_etag_of_somebody_else_s_list_is_not_one_s_own(
    alice: ApiClient, bob: ApiClient
) -> None:
    await alice.add_task()
    of_alice = (await get_list(alice, "/api/tasks")).headers["ETag"]
    for _ in range(2):
        response = await get_list(bob, "/api/tasks", of_alice)
        assert response.status == 200
        assert response.headers["ETag"] != of_alice
        assert all(task["title"] == "Bob's" for task in response.json["tasks"])
        await bob.add_task("Bob's")


async def test_a_new_key_gives_other_cursors_and_so_another_etag(
    settings: Settings, alice: ApiClient
) -> None:
    for _ in range(3):
        await alice.add_task()
    known = OTHER
    pages = []
    for keys in (OLD_KEY, f"{NEW_KEY},{OLD_KEY}", NEW_KEY):
        async with running(settings, TASKAPP_SECRET_KEY=keys) as server:
            client = await server.client.log_in(alice.email, PASSWORD)
            pages.append(await get_list(client, "/api/tasks?limit=2", known))
            known = pages[-1].headers["ETag"]
            assert_not_modified(await get_list(client, "/api/tasks?limit=2", known), known)
    first, rotated, forgotten = pages
    assert rotated.status == 200
    assert rotated.json["tasks"] == first.json["tasks"]
    assert rotated.json["nextCursor"] != first.json["nextCursor"]
    # The old key signs nothing any more, so that to forget it changes no list.
    assert forgotten.status == 304
