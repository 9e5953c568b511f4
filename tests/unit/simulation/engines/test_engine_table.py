"""The table of engines: each number of workers has one, and no engine stands there that none uses."""

from __future__ import annotations

from simulation.engines.registry import ENGINES, engine_name


def test_one_worker_computes_here_and_more_in_a_pool():
    assert [engine_name(workers) for workers in (0, 1, 2, 8)] == ["inline", "inline", "pool", "pool"]
    assert {engine_name(workers) for workers in range(9)} == ENGINES.keys()
