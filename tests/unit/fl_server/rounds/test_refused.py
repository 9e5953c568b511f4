"""A run that nobody takes part in ends with its first round, and says each reason once."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import toy

from fl_core.errors import PrivacyError
from fl_core.types import ClientInfo
from fl_server.plan.setup import Setup
from fl_server.results.model import Model
from fl_server.rounds.intake import Tally
from fl_server.rounds.progress import Progress
from fl_server.rounds.refused import end_where_all_refused

NODES = {n: ClientInfo(f"client-{n}", 48, "1", False) for n in range(3)}


@pytest.fixture
def progress(tmp_path: Path) -> Progress:
    setup = Setup.of(toy.config(tmp_path), toy.data())
    return Progress(setup, Model(setup.spec, setup.initial_state().model), setup.initial_state())


def refused(*clients: str, **other: str) -> Tally:
    return Tally(asked=3, refused=dict.fromkeys(clients, "sample_rate: too large") | other)


def test_when_everyone_refuses_the_run_ends_and_says_each_reason_once(progress: Progress) -> None:
    tally = refused("client-0", "client-2", **{"client-1": "its budget is spent"})
    with pytest.raises(PrivacyError) as ended:
        end_where_all_refused(progress, tally, NODES)
    words = str(ended.value)
    assert words.endswith(
        "all of them refused: sample_rate: too large (client-0, client-2); its budget is spent (client-1)"
    )
    assert ended.value.exit_code == 5


def test_one_that_did_not_refuse_or_was_accepted_before_keeps_a_run_going(progress: Progress) -> None:
    end_where_all_refused(progress, Tally(asked=3), NODES)
    end_where_all_refused(progress, refused("client-0", "client-2"), NODES)
    end_where_all_refused(
        replace(progress, accepted={"client-9": "task"}), refused(*(f"client-{n}" for n in NODES)), NODES
    )
    end_where_all_refused(progress, refused("client-0"), {})
