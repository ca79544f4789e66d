"""How the instances of an app are found, and when one is forgotten."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import msgspec
import pytest

from kstream.errors import StateUnavailable, UsageError
from kstream.observe.queried import Owner, QueriedStore, StateEntries, StateOverview
from kstream.web.asking import Response
from kstream.web.instances import Instances

ENTRIES = StateEntries("counts", [], [0])
UNKNOWN = b'{"error":"a token is needed"}'


@dataclass
class Answers:
    """Instances by their URLs; what each answers for a store, None where it cannot be reached. One that says anything
    but that a partition cannot be asked says it to whoever asks who has what, too."""

    of: dict[str, Response | None]
    asked: list[tuple[str, str]] = field(default_factory=list)

    async def ask(self, url: str, target: str, body: bytes | None = None, *, seconds: float) -> Response:
        self.asked.append((url, target.partition("?")[0]))
        await asyncio.sleep(0)
        if (answer := self.of[url]) is None:
            raise StateUnavailable(f"{url} cannot be asked")
        if target != "/state" or self._is_stranger(answer):
            return answer
        ours = [url for url, said in self.of.items() if not self._is_stranger(said)]
        owners = [Owner(at, url, url, "running") for at, url in enumerate(ours)]
        return ok(StateOverview("shop", "a", [QueriedStore("counts", "str", "int", "keyed", len(owners), owners)]))

    def _is_stranger(self, answer: Response | None) -> bool:
        return answer is not None and answer.status != 200 and b"partition" not in answer.body


def ok(told: object) -> Response:
    return Response(200, {}, msgspec.json.encode(told))


def refusing(status: int, body: bytes = b'{"error":"partition 0 cannot be asked now"}') -> Response:
    return Response(status, {}, body)


@dataclass
class Found:
    """Counts how often instances are looked for, and how many do so at a time."""

    urls: Sequence[str]
    seconds: float = 0.02
    count: int = 0
    most: int = 0
    now: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def __call__(self) -> Sequence[str]:
        with self.lock:
            self.count, self.now = self.count + 1, self.now + 1
            self.most = max(self.most, self.now)
        time.sleep(self.seconds)  # the time that Kafka takes
        with self.lock:
            self.now -= 1
        return self.urls


async def entries(instances: Instances, url: str | None = None, seconds: float = 5.0) -> StateEntries:
    return await instances.ask(url, "counts", "form=raw", b"{}", StateEntries, time.monotonic() + seconds)


def test_they_are_looked_for_once_for_all_who_ask() -> None:
    find = Found(["a"])

    async def asked() -> None:
        instances = Instances(find, Answers({"a": ok(ENTRIES)}))  # type: ignore[arg-type]
        assert await asyncio.gather(*(entries(instances) for _ in range(50))) == [ENTRIES] * 50

    asyncio.run(asked())
    assert find.count == 1


def test_nobody_waits_longer_than_it_wants() -> None:
    late, looked = threading.Event(), list[bool]()

    def find() -> list[str]:
        looked.append(late.wait(60))
        return ["a"]

    async def asked() -> None:
        instances = Instances(find, Answers({"a": ok(ENTRIES)}))  # type: ignore[arg-type]
        patient = asyncio.ensure_future(entries(instances, seconds=60))
        with pytest.raises(StateUnavailable, match="no instance of the app was found in time"):
            await entries(instances, seconds=0.05)
        assert not patient.done()
        late.set()
        assert await patient == ENTRIES  # and what was looked for meanwhile is not lost

    asyncio.run(asked())
    assert looked == [True]


@pytest.mark.parametrize("status", [503, 500])
def test_an_instance_that_answers_is_not_forgotten(status: int) -> None:
    find, answers = Found(["a"]), Answers({"a": refusing(status)})

    async def asked() -> None:
        instances = Instances(find, answers)  # type: ignore[arg-type]
        for _ in range(10):
            with pytest.raises(StateUnavailable, match="partition 0 cannot be asked now"):
                await entries(instances)
        await instances.close()

    asyncio.run(asked())
    assert find.count == 1


def test_when_partitions_move_those_that_are_known_are_asked_who_has_them_now(monkeypatch: pytest.MonkeyPatch) -> None:
    find, answers = Found(["a"]), Answers({"a": refusing(503)})

    async def asked() -> None:
        instances = Instances(find, answers)  # type: ignore[arg-type]
        monkeypatch.setattr("kstream.web.instances.AGAIN_SECONDS", 0.0)
        await instances.found()
        answers.of["b"] = ok(ENTRIES)  # has joined
        with pytest.raises(StateUnavailable):
            await entries(instances, "a")
        while {instances.owner("counts", b"%d" % n) for n in range(9)} != {"a", "b"}:
            await asyncio.sleep(0)
        assert await entries(instances, "b") == ENTRIES

    asyncio.run(asked())
    assert find.count == 1


@pytest.mark.parametrize(
    "failure", [None, refusing(502, b"<html>"), refusing(503, b"busy")], ids=["none", "502", "503"]
)
def test_one_that_cannot_be_reached_is_forgotten_and_the_others_are_not(failure: Response | None) -> None:
    find, answers = Found(["a"]), Answers({"a": ok(ENTRIES), "b": ok(ENTRIES)})

    async def asked() -> None:
        instances = Instances(find, answers)  # type: ignore[arg-type]
        await instances.found()
        answers.of["b"] = failure
        with pytest.raises(StateUnavailable):
            await entries(instances, "b")
        assert await entries(instances, "b") == ENTRIES  # of another
        del answers.of["b"]
        answers.of["a"] = None
        with pytest.raises(StateUnavailable):
            await entries(instances)
        answers.of = {"c": ok(ENTRIES)}
        find.urls = ["c"]
        assert await asyncio.gather(*(entries(instances, "a") for _ in range(20))) == [ENTRIES] * 20

    asyncio.run(asked())
    assert (find.count, find.most) == (2, 1)


@pytest.mark.parametrize(
    "stranger", [refusing(401, UNKNOWN), refusing(404, b"<html>"), refusing(400, b"")], ids=["app", "program", "proxy"]
)
def test_a_stranger_at_an_address_that_an_instance_had_is_forgotten(stranger: Response) -> None:
    find, answers = Found(["a"]), Answers({"a": ok(ENTRIES), "b": ok(ENTRIES)})

    async def asked() -> None:
        instances = Instances(find, answers)  # type: ignore[arg-type]
        await instances.found()
        answers.of["b"] = stranger
        with pytest.raises(StateUnavailable):  # so that it is tried again
            await entries(instances, "b")
        assert await entries(instances, "b") == ENTRIES
        answers.of, find.urls = {"a": stranger, "c": None}, ["a", "c"]
        with pytest.raises(StateUnavailable):
            await entries(instances, "a")
        with pytest.raises(StateUnavailable, match="cannot be asked"):  # c is not heard yet
            await entries(instances, "a")
        answers.of = {"a": stranger, "c": ok(ENTRIES)}
        assert await entries(instances, "a") == ENTRIES

    asyncio.run(asked())


def test_what_is_wrong_everywhere_is_said_and_looked_for_again() -> None:
    find, answers = Found([]), Answers({"a": refusing(401, UNKNOWN), "b": refusing(401, UNKNOWN)})

    async def asked() -> None:
        instances = Instances(find, answers)  # type: ignore[arg-type]
        with pytest.raises(StateUnavailable, match="no instance of the app is heard of"):
            await entries(instances)
        find.urls = ["a", "b"]
        with pytest.raises(UsageError, match="another token"):
            await entries(instances)
        answers.of = {"a": ok(ENTRIES), "b": ok(ENTRIES)}
        assert await entries(instances) == ENTRIES

    asyncio.run(asked())
    assert find.count == 3
