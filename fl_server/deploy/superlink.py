"""``python -m fl_server.deploy.superlink``: Flower's SuperLink, which answers a request with less work.

It takes the arguments of ``flower-superlink``. Flower puts nine of Starlette's ``BaseHTTPMiddleware`` around each
other, and each hands every part of a request and of its answer through a stream and a task of its own: two thirds of
what a SuperLink computes for a polling node. ``FlatMiddleware`` asks the same nine in the same order, as plain calls.

An answer leaves in parts, too: TLS keeps a buffer of the largest it was ever handed at once, as long as its connection
lives, so that each of the gateway's connections would hold a model.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware, RequestResponseEndpoint
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from fl_core.flower_private.superlink import run_superlink

PART_BYTES = 1 << 18
"""As much as asyncio reads from TLS at once."""


class FlatMiddleware:
    """Many ``BaseHTTPMiddleware`` in one: each is asked as ever, what lies inside is read whole and not streamed.

    What a middleware puts in the place of the answer from inside may be a stream. An answer from inside is held in
    memory until it is complete, so none of the app's own may be endless.

    Args:
        app: what lies inside.
        inside: the middlewares, outermost first.
    """

    def __init__(self, app: ASGIApp, inside: Sequence[Middleware]) -> None:
        self._app = app
        made: list[Any] = [each.cls(app, *each.args, **each.kwargs) for each in inside]
        self._dispatches = [each.dispatch_func for each in made]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        endpoint: RequestResponseEndpoint = self._innermost
        for dispatch in reversed(self._dispatches):
            endpoint = partial(dispatch, call_next=endpoint)
        response = await endpoint(Request(scope, receive))
        await response(scope, receive, partial(_send_in_parts, send))

    async def _innermost(self, request: Request) -> Response:
        body: bytes | None = await request.body()
        status, headers, parts = 500, list[tuple[bytes, bytes]](), list[bytes]()

        async def read() -> Message:
            nonlocal body
            if body is None:
                return await request.receive()
            message, body = {"type": "http.request", "body": body, "more_body": False}, None
            return message

        async def keep(message: Message) -> None:
            nonlocal status, headers
            if message["type"] == "http.response.start":
                status, headers = message["status"], list(message.get("headers", ()))
            elif message["type"] == "http.response.body":
                parts.append(message.get("body", b""))

        await self._app(request.scope, read, keep)
        response = Response(b"".join(parts), status)
        response.raw_headers = headers
        return response


async def _send_in_parts(send: Send, message: Message) -> None:
    """``send`` for a message whose body may be large."""
    body = memoryview(message.get("body", b""))
    last = max(0, len(body) - 1) // PART_BYTES * PART_BYTES
    for start in range(0, last, PART_BYTES):
        part = bytes(body[start : start + PART_BYTES])
        await send({"type": "http.response.body", "body": part, "more_body": True})
    await send(message if last == 0 else {**message, "body": bytes(body[last:])})


def flattened(middlewares: Sequence[Middleware]) -> list[Middleware]:
    """``middlewares`` as one; unchanged where one of them is no ``BaseHTTPMiddleware``.

    Args:
        middlewares: outermost first.
    """
    classes: list[Any] = [each.cls for each in middlewares]
    if not all(isinstance(each, type) and issubclass(each, BaseHTTPMiddleware) for each in classes):
        return list(middlewares)
    return [Middleware(FlatMiddleware, inside=middlewares)]


if __name__ == "__main__":
    run_superlink(flattened)
