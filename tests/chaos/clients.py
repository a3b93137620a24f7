"""People who take credentials all the time, and what each of them really got."""

from __future__ import annotations

import http.client
import itertools
import json
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from tests.chaos.broker_process import BrokerProcess
from tests.flow.demo_process import Answer, Demo, PortalClient, csrf_token

PEOPLE = ("alice", "bob", "hanako", "o'neil(ops)$1")
_SHORTEST_SECONDS, _LONGEST_SECONDS = 900, 28_800


@dataclass(frozen=True)
class Received:
    """What came out of the portal.

    Attributes:
        duration_seconds: asked for by nobody else, so that it names the request.
        access_key_id: None where a browser was sent to the console.
    """

    duration_seconds: int
    access_key_id: str | None


@dataclass
class Load:
    """Several people at once.

    Attributes:
        received: everything that was handed over.
        answers: how often the portal answered with which status; None for no answer.
    """

    broker: BrokerProcess
    demo: Demo
    durations: Iterator[int] = field(
        default_factory=lambda: itertools.cycle(range(_SHORTEST_SECONDS, _LONGEST_SECONDS))
    )
    received: list[Received] = field(default_factory=list)
    answers: Counter[int | None] = field(default_factory=Counter)
    surprises: list[str] = field(default_factory=list)
    _stop: threading.Event = field(default_factory=threading.Event)

    @contextmanager
    def running(self) -> Iterator[None]:
        threads = [threading.Thread(target=self._work, args=(name,)) for name in PEOPLE]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            self._stop.set()
            for thread in threads:
                thread.join(60)
        assert not self.surprises, self.surprises[:3]

    def _work(self, username: str) -> None:
        try:
            person, token = None, ""
            while not self._stop.is_set():
                if person is None:
                    person, token = self._signed_in(username)
                    continue
                for use in ("credentials", "console"):
                    duration = next(self.durations)
                    answer = self._ask(person, token, use, duration)
                    self.answers[None if answer is None else answer.status] += 1
                    if answer is None or answer.status >= 500:
                        time.sleep(0.02)
                    elif answer.status in {200, 303}:
                        self.received.append(Received(duration, _access_key_id(answer, use)))
                    else:
                        self.surprises.append(f"{answer.status} {answer.text[:500]}")
                        return
        except Exception as error:  # noqa: BLE001 - a thread cannot fail a test; who runs the load looks at this
            self.surprises.append(repr(error))

    def _signed_in(self, username: str) -> tuple[PortalClient | None, str]:
        person = PortalClient(self.broker.address)
        try:
            person.sign_in(username, self.demo.password(username))
            home = person.get("/")
            # In the middle of a fault the next try tells. Any page has a token, but only this one is of the session.
            return (person, csrf_token(home)) if home.status == 200 and home.url.endswith("/") else (None, "")
        except (OSError, http.client.HTTPException, AssertionError):
            return None, ""

    def _ask(self, person: PortalClient, token: str, use: str, duration: int) -> Answer | None:
        fields = {"csrf_token": token, "duration": str(duration)}
        headers = {"Accept": "application/json"} if use == "credentials" else {}
        try:
            return person.post(f"/issue/home/{use}", fields, **headers)
        except (OSError, http.client.HTTPException):
            return None


def _access_key_id(answer: Answer, use: str) -> str | None:
    if use == "console":
        assert "Action=login" in answer.headers["Location"]
        return None
    return str(json.loads(answer.text)["AccessKeyId"])
