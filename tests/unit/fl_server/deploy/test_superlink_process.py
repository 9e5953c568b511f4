"""The SuperLink's middlewares in one: the same answers as Starlette gives with one around the other."""

import asyncio

import httpx
import pytest
from flwr.superlink import main
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from fl_server.deploy.superlink import PART_BYTES, FlatMiddleware, flattened

SAID: list[str] = []


class Named(BaseHTTPMiddleware):
    """Says when it is asked and when it has an answer, and marks the answer."""

    def __init__(self, app, name):
        super().__init__(app)
        self.name = name

    async def dispatch(self, request, call_next):
        SAID.append(f"{self.name} asked")
        request.state.seen = [*getattr(request.state, "seen", []), self.name]
        response = await call_next(request)
        SAID.append(f"{self.name} answered")
        response.headers.append("x-by", self.name)
        return response


class Reads(BaseHTTPMiddleware):
    """Reads the body before what lies inside does."""

    async def dispatch(self, request, call_next):
        request.state.size = len(await request.body())
        return await call_next(request)


class Streams(BaseHTTPMiddleware):
    """Puts a stream in the place of an answer, keeping its headers."""

    async def dispatch(self, request, call_next):
        response = await call_next(request)
        if request.url.path != "/stream":
            return response
        instead = StreamingResponse(iter([b"one ", b"two"]))
        instead.headers["x-inner"] = response.headers["x-inner"]
        return instead


async def translate(request, call_next):
    try:
        return await call_next(request)
    except KeyError as error:
        return JSONResponse({"missing": str(error)}, 418)


async def refuse(request, call_next):
    return Response("no", 403) if request.url.path == "/refused" else await call_next(request)


async def echo(request):
    return PlainTextResponse(await request.body() + str((request.state.seen, request.state.size)).encode())


async def fail(request):
    raise KeyError("scale")


async def placeholder(request):
    return PlainTextResponse("instead of a stream", headers={"x-inner": "kept"})


ROUTES = [
    Route("/echo", echo, methods=["POST"]),
    Route("/fail", fail),
    Route("/stream", placeholder),
    Route("/refused", placeholder),
]
MIDDLEWARES = [
    Middleware(Named, name="outer"),
    Middleware(BaseHTTPMiddleware, dispatch=translate),
    Middleware(Reads),
    Middleware(BaseHTTPMiddleware, dispatch=refuse),
    Middleware(Streams),
    Middleware(Named, name="inner"),
]


def ask(middlewares, method, path, body=b""):
    async def call():
        app = httpx.ASGITransport(Starlette(routes=ROUTES, middleware=middlewares))
        async with httpx.AsyncClient(transport=app, base_url="http://superlink") as client:
            return await client.request(method, path, content=body)

    return asyncio.run(call())


def answer(middlewares, method, path, body):
    SAID.clear()
    response = ask(middlewares, method, path, body)
    return response.status_code, response.headers.multi_items(), response.content, list(SAID)


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", "/echo", b"x" * 100_000),
        ("GET", "/fail", b""),
        ("GET", "/stream", b""),
        ("GET", "/refused", b""),
        ("GET", "/echo", b""),
        ("GET", "/unknown", b""),
    ],
)
def test_the_answers_and_their_order_are_those_of_nested_middlewares(method, path, body):
    assert answer(flattened(MIDDLEWARES), method, path, body) == answer(MIDDLEWARES, method, path, body)


@pytest.mark.parametrize("size", [0, 1, PART_BYTES - 1, PART_BYTES, PART_BYTES + 1, 3 * PART_BYTES, 10_000_000])
def test_no_part_of_an_answer_is_larger_than_a_part_and_together_they_are_the_answer(size):
    content = bytes(range(251)) * (size // 251 + 1)
    sent = []

    async def receive():
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message):
        sent.append(message)

    scope = {"type": "http", "method": "POST", "path": "/", "headers": [], "query_string": b""}
    asyncio.run(FlatMiddleware(Response(content[:size]), [Middleware(Reads)])(scope, receive, send))
    start, *parts = sent
    assert (b"content-length", str(size).encode()) in start["headers"]
    assert max(len(part["body"]) for part in parts) <= PART_BYTES
    assert b"".join(part["body"] for part in parts) == content[:size]
    assert [part.get("more_body", False) for part in parts] == [True] * (len(parts) - 1) + [False]


def test_an_error_that_nobody_translates_reaches_the_server():
    for middlewares in (flattened(MIDDLEWARES[2:]), MIDDLEWARES[2:]):
        with pytest.raises(KeyError):
            ask(middlewares, "GET", "/fail")


def test_what_is_inside_hears_of_a_client_that_has_gone():
    heard = []

    async def app(scope, receive, send):
        heard.extend([await receive(), await receive()])
        await Response("")(scope, receive, send)

    messages = iter([{"type": "http.request", "body": b"ab", "more_body": False}, {"type": "http.disconnect"}])

    async def receive():
        return next(messages)

    async def send(message):
        pass

    scope = {"type": "http", "method": "POST", "path": "/", "headers": [], "query_string": b""}
    asyncio.run(FlatMiddleware(app, [Middleware(Reads)])(scope, receive, send))
    assert heard == [{"type": "http.request", "body": b"ab", "more_body": False}, {"type": "http.disconnect"}]


def test_a_middleware_of_another_kind_leaves_all_as_they_are():
    others = [*MIDDLEWARES, Middleware(GZipMiddleware)]
    assert flattened(others) == others


def test_all_middlewares_of_flowers_superlink_can_be_flattened():
    (one,) = flattened(main._get_middleware())
    assert one.cls is FlatMiddleware
    assert len(one.kwargs["inside"]) == len(main._get_middleware())
