"""Sessions around an application: ASGI and WSGI, without any framework.

A request without a signed cookie costs nothing. With one, its session is opened before the application and
saved when the response starts; what is changed later is not kept. A response that sets the cookie is kept in
no cache on the way, unless the application has a Cache-Control of its own. While Redis is away a request with
a session gets a 503, unless the policy lets the process serve alone.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping, MutableMapping
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final

from perfloop.cache.sessions import WebSession
from perfloop.errors import InvalidInput, TargetUnreachable

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

    from perfloop.cache._async.sessions import AsyncSessions
    from perfloop.cache._sync.sessions import Sessions

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
AsgiApp = Callable[[Message, Receive, Send], Awaitable[None]]

STARTS: Final = ("http.response.start", "websocket.accept")
AWAY: Final = b"sessions cannot be read at the moment\n"
HEADERS: Final = (("Content-Type", "text/plain"), ("Retry-After", "1"), ("Cache-Control", "no-store"))


def session_of(request: Mapping[str, Any]) -> WebSession:
    """The session of a request, by its ASGI scope (`request.scope` in Starlette) or its WSGI environ.

    Raises:
        InvalidInput: No middleware has put one there.
    """
    session = request.get("perfloop.session", request.get("session"))
    if not isinstance(session, WebSession):
        raise InvalidInput(
            "the request has no session; put AsgiSessions or WsgiSessions around the application"
        )
    return session


class AsgiSessions:
    """`scope["session"]` for the application within, which is `request.session` in Starlette and FastAPI."""

    def __init__(self, app: AsgiApp, sessions: AsyncSessions) -> None:
        self._app = app
        self._sessions = sessions

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        cookies = b";".join(value for name, value in scope["headers"] if name == b"cookie")
        try:
            opened = await self._sessions.open(cookies.decode("latin-1"))
        except TargetUnreachable:
            await _refuse(scope, send)
            return

        async def send_with_cookie(message: Message) -> None:
            if message["type"] in STARTS:
                cookie = await self._sessions.save(opened)
                if cookie is not None:
                    headers = [*message.get("headers", ()), (b"set-cookie", cookie.encode("latin-1"))]
                    if not any(name.lower() == b"cache-control" for name, _ in headers):
                        headers.append((b"cache-control", b"no-store"))
                    message = {**message, "headers": headers}
            await send(message)

        await self._app({**scope, "session": opened.session}, receive, send_with_cookie)


async def _refuse(scope: Message, send: Send) -> None:
    if scope["type"] == "websocket":
        await send({"type": "websocket.close", "code": 1013})
        return
    headers = [(name.lower().encode(), value.encode()) for name, value in HEADERS]
    await send({"type": "http.response.start", "status": 503, "headers": headers})
    await send({"type": "http.response.body", "body": AWAY})


class WsgiSessions:
    """`environ["perfloop.session"]` for the application within."""

    def __init__(self, app: WSGIApplication, sessions: Sessions) -> None:
        self._app = app
        self._sessions = sessions

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        try:
            opened = self._sessions.open(environ.get("HTTP_COOKIE", ""))
        except TargetUnreachable:
            start_response("503 Service Unavailable", list(HEADERS))
            return [AWAY]
        environ["perfloop.session"] = opened.session
        saved: list[str | None] = []  # an application that fails late starts its response again

        def start_with_cookie(
            status: str,
            headers: list[tuple[str, str]],
            exc_info: tuple[type[BaseException], BaseException, TracebackType]
            | tuple[None, None, None]
            | None = None,
        ) -> Callable[[bytes], object]:
            if not saved:
                saved.append(self._sessions.save(opened))
            for cookie in filter(None, saved):
                headers = [*headers, ("Set-Cookie", cookie)]
                if not any(name.lower() == "cache-control" for name, _ in headers):
                    headers.append(("Cache-Control", "no-store"))
            return start_response(status, headers, exc_info) if exc_info else start_response(status, headers)

        return self._app(environ, start_with_cookie)
