"""What a server is told of a task that failed: what kind of error, and never the error's own text or paths."""

from __future__ import annotations

import errno
from typing import cast

import grpc
import pytest

from fl_client.shell.protocol import read_response, send_request
from fl_client.trainer.service import respond
from fl_core.errors import TrainerError


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (OSError(errno.ENOSPC, "private words", "/var/lib/stonecrop/ledger.sqlite"), "No space left on device"),
        (ValueError("private words"), "ValueError"),
    ],
)
def test_a_full_disk_is_told_and_no_path(error: Exception, kind: str) -> None:
    def fail(request: object) -> bytes:
        raise error

    with pytest.raises(TrainerError, match=kind) as told:
        read_response(respond(fail, send_request(()), cast(grpc.ServicerContext, None)))
    assert "private" not in str(told.value)
    assert "/var" not in str(told.value)
