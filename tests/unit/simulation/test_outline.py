"""The outline that ``fl-sim validate`` prints: which guarantees hold for whom, and at which widths clients train."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
import toy
from rich.console import Console

from simulation.preflight import preflight
from simulation.tables import outline_table

CENTRAL = {"epsilon": 6.0, "delta": 1e-4, "expected_clients": 4, "clip_norm": 0.5}


def printed(out: Path, **sections: object) -> str:
    page = io.StringIO()
    Console(width=200, file=page).print(outline_table(preflight(toy.config(out, **sections))))
    return page.getvalue()


@pytest.mark.parametrize(("name", "mechanism"), [("central_dp", "gaussian"), ("dp_ftrl", "tree")])
def test_the_guarantee_for_whole_clients_stands_beside_that_for_examples(tmp_path, name, mechanism):
    own = {"restart_every": 3} if name == "dp_ftrl" else {}
    strategy = {"name": name, "args": CENTRAL | own}
    alone = printed(tmp_path, strategy=strategy)
    row = next(line for line in alone.splitlines() if "privacy of whole clients" in line)
    assert "epsilon 6, delta 0.0001, rdp" in row
    assert f"x clip norm 0.5, {mechanism}" in alone
    assert "no differential privacy" not in alone
    both = printed(tmp_path, strategy=strategy, privacy={"epsilon": 8.0})
    assert "epsilon 6, delta 0.0001, rdp" in both
    assert "epsilon 8, delta 1e-05, rdp" in both


def test_without_any_guarantee_the_outline_says_so(tmp_path):
    assert "none: no differential privacy" in printed(tmp_path)


def test_widths_of_single_clients_are_listed(tmp_path):
    assert "8; client-1 4, client-3 2" in printed(tmp_path, quant={"client_bits": {"client-3": 2, "client-1": 4}})
