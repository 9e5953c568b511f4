"""A running gateway that the tests of a file share, and devices that are enrolled with it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from fl_client.node.identity import Identity, enrol
from fl_server.gateway.operate import create_token
from support.gateway import RunningGateway, running_gateway


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningGateway]:
    with running_gateway(tmp_path_factory.mktemp("server")) as running_one:
        yield running_one


@pytest.fixture(scope="module")
def steady(gateway: RunningGateway, tmp_path_factory: pytest.TempPathFactory) -> Identity:
    """An approved device that no test changes."""
    return enrol(tmp_path_factory.mktemp("board"), gateway.url, create_token(gateway.root, auto_approve=True))[0]


@pytest.fixture
def board(gateway: RunningGateway, tmp_path: Path) -> Identity:
    """An approved device of this test."""
    return enrol(tmp_path, gateway.url, create_token(gateway.root, auto_approve=True))[0]
