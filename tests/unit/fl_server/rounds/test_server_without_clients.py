"""A server in the field holds a test set and nobody's examples; a simulation needs clients."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import toy

from fl_core.data.federation import Federation
from fl_core.errors import DataError
from fl_core.tree import digest
from fl_server.plan.setup import Setup
from simulation.preflight import preflight


def servers_own() -> Federation:
    """The toy data without its clients."""
    return replace(toy.data(), clients={})


def test_a_server_starts_from_the_same_model_with_and_without_clients_data(tmp_path: Path) -> None:
    config = toy.config(tmp_path)
    with_clients, without = Setup.of(config, toy.data().check()), Setup.of(config, servers_own().check())
    assert digest(without.initial_state().model) == digest(with_clients.initial_state().model)
    assert without.spec == with_clients.spec


def test_a_simulation_without_clients_is_refused(tmp_path: Path) -> None:
    config = toy.config(tmp_path, data={"factory": f"{__name__}:servers_own"})
    with pytest.raises(DataError, match="at least one client to simulate"):
        preflight(config)


def test_data_of_nobody_at_all_is_refused() -> None:
    with pytest.raises(DataError, match="clients, a test set or public examples"):
        Federation({}).check()
