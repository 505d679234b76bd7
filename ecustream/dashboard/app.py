"""The pages and the stream behind them as an ASGI application."""

import ipaddress
from collections.abc import AsyncIterator, Collection, Sequence
from pathlib import Path

import msgspec
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import FileResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ecustream.dashboard.board import Board
from ecustream.dashboard.hub import Hub

__all__ = ["make_app"]

STATIC = Path(__file__).parent / "static"
MOST_PAGES = 64
# Nothing from elsewhere is loaded and nothing inline runs, whatever a PDU's name says.
HEADERS = (
    (
        b"content-security-policy",
        b"default-src 'self'; base-uri 'none'; frame-ancestors 'none'; form-action 'none'",
    ),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cache-control", b"no-store"),
)


def make_app(boards: Sequence[Board], hub: Hub, names: Collection[str]) -> Starlette:
    """The application.

    `/api/stream` gives the frames of `hub` as server-sent events, `/api/episode?daemon=N&id=ID` what
    `Board.episode` says.

    Args:
        boards: one for each daemon.
        hub: brings their changes.
        names: the host names under which this server may be addressed, beside `localhost` and addresses.
    """

    async def stream(request: Request) -> Response:
        if len(hub.pages) >= MOST_PAGES:
            return PlainTextResponse(f"{MOST_PAGES} pages are open already", 503)
        return StreamingResponse(_events(hub), media_type="text/event-stream")

    async def episode(request: Request) -> Response:
        number = request.query_params.get("daemon", "")
        board = boards[int(number)] if number in {str(i) for i in range(len(boards))} else None
        found = None if board is None else board.episode(request.query_params.get("id", ""))
        if found is None:
            return PlainTextResponse("this episode is not held any more", 404)
        return Response(msgspec.json.encode(found), media_type="application/json")

    async def index(request: Request) -> Response:
        return FileResponse(STATIC / "index.html")

    return Starlette(
        routes=[
            Route("/", index),
            Route("/api/stream", stream),
            Route("/api/episode", episode),
            Mount("/static", StaticFiles(directory=STATIC)),
        ],
        middleware=[Middleware(_Guard, names={name.lower() for name in names})],
    )


async def _events(hub: Hub) -> AsyncIterator[bytes]:
    page = hub.join()
    try:
        while (frame := await page.next()) is not None:
            yield b"data: " + frame + b"\n\n"
    finally:
        hub.leave(page)


class _Guard:
    """Refuses requests for other hosts, and adds the headers to every answer.

    A page of elsewhere can have its own name lead here (DNS rebinding) and then read what is sent; it
    cannot do so with an address.
    """

    def __init__(self, app: ASGIApp, names: set[str]) -> None:
        self._app = app
        self._names = names | {"localhost"}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], *HEADERS]
            await send(message)

        hosts = [value.decode("latin-1") for name, value in scope["headers"] if name == b"host"]
        if len(hosts) == 1 and self._is_ours(hosts[0]):
            await self._app(scope, receive, send_with_headers)
        else:
            refusal = PlainTextResponse("this server does not go by that name", 421)
            await refusal(scope, receive, send_with_headers)

    def _is_ours(self, host: str) -> bool:
        name = host.lower()
        name = name[1:].partition("]")[0] if name.startswith("[") else name.partition(":")[0]
        if name in self._names:
            return True
        try:
            ipaddress.ip_address(name)
        except ValueError:
            return False
        return True
