"""The shell's side of a trainer's socket: each question is one call, and a trainer that dies is noticed at once.

The bytes of question and reply are handed on as they are.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import grpc

from fl_client.shell.protocol import SERVICE, STATUS, address, read_response, send_request
from fl_core.errors import TrainerError
from fl_core.questions import Question, Request

CONNECT_PATIENCE_S = 30.0
"""How long a call waits for a trainer that is not there yet: one that has just been restarted loads torch first."""
_OPTIONS = (
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1000),
)


class SocketTrainer:
    """The trainer behind the Unix socket ``path``.

    A call waits ``patience_s`` seconds for the trainer to be there. Once it has begun there is no limit: training may
    take hours, and the end of the trainer ends the call.

    Raises:
        TrainerError: from every method: there is no trainer, or it died before it answered.
        StonecropError: from every method: whatever the trainer raised.
    """

    def __init__(self, path: Path, patience_s: float = CONNECT_PATIENCE_S) -> None:
        self._path = path
        self._patience_s = patience_s

    def ask(self, question: Question, request: Request) -> bytes:
        """The trainer's reply to a question, as bytes; raises what the trainer raised."""
        return self._call(question.name, request)

    def status(self) -> Mapping[str, Any]:
        """What the trainer is doing and has spent; see ``fl_client.trainer.counters``."""
        fields: dict[str, Any] = json.loads(self._call(STATUS, ()))
        return fields

    def _call(self, method: str, request: Request) -> bytes:
        ends = time.monotonic() + self._patience_s
        with grpc.insecure_channel(self._address, options=_OPTIONS) as channel:
            try:
                grpc.channel_ready_future(channel).result(timeout=max(0.0, ends - time.monotonic()))
            except grpc.FutureTimeoutError:
                raise TrainerError(
                    f"trainer: nothing answers at {self._path} within {self._patience_s:g} s; is it running, and may "
                    "this user reach its socket?"
                ) from None
            try:
                return read_response(channel.stream_stream(f"/{SERVICE}/{method}")(send_request(request)))
            except grpc.RpcError as error:
                raise TrainerError(f"trainer: died or was stopped during {method!r} ({_words(error)})") from None

    @cached_property
    def _address(self) -> str:
        try:
            return address(self._path)
        except OSError as error:
            raise TrainerError(f"trainer: its socket {self._path} cannot be reached ({error})") from None


def _words(error: grpc.RpcError) -> str:
    """gRPC's code and details, where the error has them."""
    if isinstance(error, grpc.Call):
        return f"{error.code().name}: {error.details()}"
    return str(error)
