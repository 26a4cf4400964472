"""Sessions on the cache's tiers: two processes are two caches on one remote tier."""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import io
from collections.abc import Callable, Iterator
from typing import Any
from wsgiref.util import setup_testing_defaults
from wsgiref.validate import validator

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route, WebSocketRoute
from starlette.testclient import TestClient
from starlette.websockets import WebSocket
from tests.cache_kinds import FakeClock, until

from perfloop.cache import (
    AsgiSessions,
    AsyncInMemoryRemote,
    AsyncSessions,
    AsyncTieredCache,
    InMemoryRemote,
    InMemoryServer,
    SessionPolicy,
    Sessions,
    TieredCache,
    WebSession,
    WsgiSessions,
    session_of,
)
from perfloop.errors import InvalidInput, TargetUnreachable

SECRET, NEWER = b"a" * 32, b"b" * 32


class Browser:
    """One cookie jar and one process's sessions; a request is opened, worked on and saved."""

    def __init__(self, sessions: Sessions, cookie: str = "") -> None:
        self.sessions = sessions
        self.cookie = cookie
        self.header: str | None = None

    @contextlib.contextmanager
    def request(self) -> Iterator[WebSession]:
        opened = self.sessions.open(f"theme=dark; {self.cookie}")
        yield opened.session
        self.header = self.sessions.save(opened)
        if self.header is not None:
            self.cookie = self.header.partition(";")[0]

    def at(self, sessions: Sessions) -> Browser:
        return Browser(sessions, self.cookie)

    def sees(self) -> dict[str, Any]:
        return dict(self.sessions.open(self.cookie).session)


@pytest.fixture
def server() -> InMemoryServer:
    return InMemoryServer()


@pytest.fixture
def one(server: InMemoryServer, clock: FakeClock) -> Iterator[Sessions]:
    with TieredCache(remote=InMemoryRemote(server)) as cache:
        yield Sessions(cache, [SECRET], clock=clock)


@pytest.fixture
def other(server: InMemoryServer, clock: FakeClock) -> Iterator[Sessions]:
    with TieredCache(remote=InMemoryRemote(server)) as cache:
        yield Sessions(cache, [SECRET], clock=clock)


def begun(sessions: Sessions, **content: Any) -> Browser:
    browser = Browser(sessions)
    with browser.request() as session:
        session.update(content)
    return browser


def test_a_request_that_keeps_nothing_gets_no_cookie_and_writes_nothing(one: Sessions) -> None:
    browser = Browser(one)
    with browser.request() as session:
        assert {} == session

    assert browser.header is None
    assert 0 == one._cache.statistics().memory.entries


def test_what_one_process_keeps_another_one_sees(one: Sessions, other: Sessions) -> None:
    at = dt.datetime(2026, 1, 2, tzinfo=dt.UTC)
    browser = begun(one, cart=[1], at=at, pair=(1, "a"))

    assert {"cart": [1], "at": at, "pair": (1, "a")} == browser.at(other).sees()


def test_a_change_in_depth_is_kept_and_only_changes_are_written(one: Sessions, other: Sessions) -> None:
    browser = begun(one, cart=[1])
    with browser.request() as session:
        session["cart"].append(2)

    assert browser.header is None
    until(lambda: {"cart": [1, 2]} == browser.at(other).sees())


def test_of_each_key_the_last_request_that_writes_it_wins(one: Sessions) -> None:
    browser = begun(one, a=1, b=1, c=1)
    first, second = one.open(browser.cookie), one.open(browser.cookie)
    first.session["a"] = "first"
    first.session["b"] = "first"
    second.session["b"] = "second"
    del second.session["c"]
    one.save(first)
    one.save(second)

    assert {"a": "first", "b": "second"} == browser.sees()


def test_ids_that_nobody_gave_out_and_forged_cookies_are_not_adopted(one: Sessions) -> None:
    unknown = one.cookie.write("x" * 43).partition(";")[0]
    known = begun(one, a=1).cookie
    forged = known[:-2] + ("AA" if not known.endswith("AA") else "BB")
    for cookie in (unknown, forged, known.partition(".")[0], "session=", "session=.", "session=é.é", ";;=;"):
        browser = Browser(one, cookie)
        assert {} == browser.sees()
        with browser.request() as session:
            session["a"] = 2
        assert browser.cookie.split(".")[0] not in (cookie.split(".")[0], known.split(".")[0])


def test_secrets_are_exchanged_one_after_the_other(one: Sessions) -> None:
    browser = begun(one, a=1)
    both, newer = (Sessions(one._cache, keys, clock=one._clock) for keys in ([NEWER, SECRET], [NEWER]))

    assert {"a": 1} == browser.at(both).sees()
    assert {} == browser.at(newer).sees()
    assert {"a": 2} == begun(both, a=2).at(newer).sees()


def test_a_login_moves_to_a_new_id_and_the_old_one_is_dead_everywhere(one: Sessions, other: Sessions) -> None:
    browser = begun(one, cart=[1])
    before = browser.at(other)
    assert {"cart": [1]} == before.sees()
    with browser.request() as session:
        session.rotate("7")
        session["admin"] = True

    assert before.cookie != browser.cookie
    until(lambda: before.sees() == {})
    assert {"cart": [1], "admin": True} == browser.at(other).sees()
    assert "7" == other.open(browser.cookie).session.user


def test_a_logout_ends_the_session_everywhere_and_no_late_write_revives_it(
    one: Sessions, other: Sessions
) -> None:
    browser = begun(one, a=1)
    copy = browser.at(other)
    late, turning = other.open(copy.cookie), other.open(copy.cookie)
    with browser.request() as session:
        session.destroy()
    until(lambda: copy.sees() == {})
    late.session["a"] = 2
    turning.session.rotate()

    assert other.save(late) is None
    assert "session=;" in str(other.save(turning))
    assert "Max-Age=0" in str(browser.header)
    assert {} == copy.sees() == Browser(one, copy.cookie).sees()


def test_all_sessions_of_a_user_end_together_and_others_go_on(one: Sessions, other: Sessions) -> None:
    browsers = [begun(sessions, a=1) for sessions in (one, other, one)]
    for browser, user in zip(browsers, ("7", "7", "8"), strict=True):
        with browser.request() as session:
            session.rotate(user)
    one.end_all("7")

    until(lambda: [{}, {}, {"a": 1}] == [browser.at(other).sees() for browser in browsers])


def test_a_session_lives_while_it_is_used_and_ends_at_its_absolute_life(
    one: Sessions, clock: FakeClock
) -> None:
    browser = begun(one, a=1)
    used_s = 0.0
    while used_s + 1000 < 12 * 3600:
        clock.advance(1000)
        used_s += 1000
        with browser.request() as session:
            assert {"a": 1} == session
    clock.advance(12 * 3600 - used_s)

    assert {} == browser.sees()


def test_an_idle_session_ends_and_reading_does_not_write_at_each_request(
    one: Sessions, server: InMemoryServer, clock: FakeClock
) -> None:
    browser = begun(one, a=1)
    for _ in range(3):
        clock.advance(50)
        opened = one.open(browser.cookie)
        one.save(opened)
        assert clock() - 50 * (_ + 1) == opened.used_at_s
    clock.advance(1800 - 150)

    assert {} == browser.sees()


def test_a_session_that_is_too_large_or_holds_what_cannot_be_kept_is_refused(one: Sessions) -> None:
    for content in ({"a": "x" * 17_000}, {"a": object()}, {1: 2}):
        opened = one.open("")
        opened.session.update(content)  # type: ignore[arg-type]  # what a mistake looks like
        with pytest.raises(InvalidInput):
            one.save(opened)


def test_secrets_are_long_and_given_as_a_list(one: Sessions) -> None:
    for keys in (b"a" * 32, [], [b"short"], ["a" * 32]):
        with pytest.raises(InvalidInput, match="list of secrets"):
            Sessions(one._cache, keys)  # type: ignore[arg-type]  # as above


def test_nothing_that_is_shown_or_kept_tells_an_id(one: Sessions, server: InMemoryServer) -> None:
    browser = begun(one, password="hush")
    session_id = browser.cookie.partition("=")[2].partition(".")[0]
    opened = one.open(browser.cookie)

    assert "<WebSession, size 1>" == repr(opened.session)
    for shown in (repr(opened), repr(one), repr(one.cookie), repr(vars(server))):
        assert session_id not in shown


def test_while_the_shared_tier_is_away_sessions_are_refused_unless_the_process_may_serve_alone(
    server: InMemoryServer, clock: FakeClock
) -> None:
    with TieredCache(remote=InMemoryRemote(server)) as cache:
        strict = Sessions(cache, [SECRET], clock=clock)
        lenient = Sessions(cache, [SECRET], policy=SessionPolicy(serves_alone=True), clock=clock)
        browser = begun(strict, a=1)
        assert {"a": 1} == browser.sees()
        server.go_away()
        cache.delete("anything")

        with pytest.raises(TargetUnreachable):
            browser.sees()
        assert {"a": 1} == browser.at(lenient).sees()
        assert {} == Browser(strict).sees()
        application = validator(WsgiSessions(validator(wsgi_app), strict))
        assert "503" in called(application, browser.cookie)[0]


def wsgi_app(environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
    session = environ["perfloop.session"]
    session["visits"] = session.get("visits", 0) + 1
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [str(session["visits"]).encode()]


def called(application: Any, cookie: str = "") -> tuple[str, dict[str, str], bytes]:
    environ: dict[str, Any] = {"HTTP_COOKIE": cookie, "QUERY_STRING": ""}
    setup_testing_defaults(environ)
    environ["wsgi.errors"] = io.StringIO()
    answer: list[Any] = []
    body = application(environ, lambda status, headers, exc_info=None: answer.extend((status, dict(headers))))
    text = b"".join(body)
    body.close()
    return answer[0], answer[1], text


def test_wsgi_has_its_session_between_two_validators(one: Sessions) -> None:
    application = validator(WsgiSessions(validator(wsgi_app), one))
    _, headers, _ = called(application)
    cookie = headers["Set-Cookie"]

    _, later, body = called(application, cookie.partition(";")[0])

    assert b"2" == body
    assert ["no-store", None] == [headers["Cache-Control"], later.get("Cache-Control")]
    assert {"HttpOnly", "Secure", "SameSite=Lax", "Path=/"} <= set(cookie.split("; "))


async def visit(request: Request) -> JSONResponse:
    session = session_of(request.scope)
    session["visits"] = session.get("visits", 0) + 1
    return JSONResponse(dict(session))


async def login(request: Request) -> JSONResponse:
    session_of(request.scope).rotate("7")
    return JSONResponse({})


async def logout(request: Request) -> JSONResponse:
    session_of(request.scope).destroy()
    return JSONResponse({})


async def talk(websocket: WebSocket) -> None:
    await websocket.accept()
    await websocket.send_json(dict(websocket.session))
    await websocket.close()


@pytest.fixture
def client(server: InMemoryServer) -> Iterator[TestClient]:
    cache = AsyncTieredCache(remote=AsyncInMemoryRemote(server))

    @contextlib.asynccontextmanager
    async def lifespan(app: Starlette) -> Any:
        async with cache:
            yield

    routes = [
        Route("/", visit),
        Route("/login", login),
        Route("/logout", logout),
        WebSocketRoute("/talk", talk),
    ]
    app = Starlette(routes=routes, lifespan=lifespan)
    app.add_middleware(AsgiSessions, sessions=AsyncSessions(cache, [SECRET]))
    with TestClient(app, base_url="https://shop.example") as client:
        yield client


def test_a_response_that_sets_the_cookie_is_kept_by_no_cache_on_the_way(client: TestClient) -> None:
    answers = [client.get("/"), client.get("/")]

    assert ["no-store", None] == [answer.headers.get("cache-control") for answer in answers]


def test_a_request_without_the_middleware_has_no_session() -> None:
    with pytest.raises(InvalidInput, match="put AsgiSessions or WsgiSessions around"):
        session_of({"type": "http", "session": {}})


def test_cookies_may_have_the_prefixes_that_browsers_hold_to() -> None:
    kept = [SessionPolicy(cookie=name).cookie for name in ("__Host-session", "__Secure-id", "shop.session")]

    assert ["__Host-session", "__Secure-id", "shop.session"] == kept
    for wrong in (
        {"cookie": "two words"},
        {"cookie": ""},
        {"cookie": "__Host-session", "path": "/shop"},
        {"cookie": "__Host-session", "domain": "example.org"},
        {"cookie": "__Secure-id", "secure": False},
    ):
        with pytest.raises(InvalidInput):
            SessionPolicy(**wrong)


def test_starlette_has_it_as_request_session(client: TestClient) -> None:
    visits = [client.get("/").json() for _ in range(2)]
    old = dict(client.cookies)
    client.get("/login")
    new = dict(client.cookies)
    with client.websocket_connect("wss://shop.example/talk") as socket:
        talked = socket.receive_json()
    client.get("/logout")

    assert [{"visits": 1}, {"visits": 2}] == visits
    assert old != new
    assert {"visits": 2} == talked
    assert {} == dict(client.cookies)
    for cookies in (old, new):
        client.cookies.clear()
        assert {"visits": 1} == client.get("/", headers={"Cookie": f"session={cookies['session']}"}).json()


def test_starlette_answers_503_while_the_truth_is_away(client: TestClient, server: InMemoryServer) -> None:
    client.get("/")
    server.go_away()

    statuses = {client.get("/").status_code for _ in range(2)}

    assert {503} == statuses
    client.cookies.clear()


def test_applications_without_requests_are_passed_through() -> None:
    seen = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append(scope["type"])

    sessions = AsyncSessions(AsyncTieredCache(), [SECRET])
    asyncio.run(AsgiSessions(app, sessions)({"type": "lifespan"}, None, None))  # type: ignore[arg-type]  # unused

    assert ["lifespan"] == seen
