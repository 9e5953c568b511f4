"""DP-FTRL: prefix sums whose noise a tree gives, and the charge of a tree that each client enters once."""

from __future__ import annotations

import dp_accounting
import numpy as np
import pytest
from dp_accounting import rdp as oracle_rdp
from scipy import stats

from fl_core.errors import ConfigError
from fl_core.privacy.accountant import ORDERS
from fl_core.rng import SeededNoise
from fl_core.tree import digest
from fl_server.rounds.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from strategies.central.dp_ftrl import DpFtrl
from strategies.fedavgm import FedAvgM
from strategies.registry import build_strategy
from support.central import MODEL, bound, filled, one_round, seeded, update

NAMES = [f"client-{k}" for k in range(300)]


def ftrl(**args) -> DpFtrl:
    return DpFtrl(**{"epsilon": 8.0, "expected_clients": 1, "restart_every": 4, **args})


def test_three_clients_by_hand_without_noise():
    strategy = bound(ftrl(expected_clients=3, clip_norm=np.sqrt(8)))
    state = strategy.init(MODEL)
    for number in range(1, 4):
        state = one_round(strategy, state, [update(0, filled(0.5), 9), update(1, filled(4.0)), update(2, filled(-2.0))])
        np.testing.assert_allclose(state.model["b"], number * 0.5 / 3, rtol=1e-5)


@pytest.mark.parametrize("rounds_of_a_tree", [1, 3, 4, 8])
def test_the_noise_of_every_prefix_is_that_of_its_nodes(rounds_of_a_tree):
    """After round t of a tree the model has as many draws in it as t has binary ones, and all earlier trees' last."""
    model = {"w": np.zeros((300, 100), np.float32)}
    strategy = bound(ftrl(restart_every=rounds_of_a_tree), seeded(5), model, sigma=1.5)
    state, before = strategy.init(model), 0
    for number in range(1, 2 * rounds_of_a_tree + 1):
        state = one_round(strategy, state, [])
        turn = (number - 1) % rounds_of_a_tree + 1
        draws = before + turn.bit_count()
        low, high = stats.chi2.ppf([5e-7, 1 - 5e-7], model["w"].size)
        assert low < float(np.square(state.model["w"].astype(np.float64)).sum()) / (1.5**2 * draws) < high
        before = draws if turn == rounds_of_a_tree else before


def test_the_noise_of_open_nodes_is_bounded_by_the_depth():
    strategy = bound(ftrl(restart_every=8), seeded(5))
    state = strategy.init(MODEL)
    for _ in range(20):
        state = one_round(strategy, state, [])
        assert len(state.slots["dp_ftrl"]) <= strategy.nodes_of_a_client * len(MODEL)


def test_every_client_takes_part_once_in_a_tree():
    strategy, noise = ftrl(restart_every=5), SeededNoise(0, "test", 1, "server")
    for tree in range(3):
        turns = np.stack([strategy.takes_part(NAMES, 5 * tree + turn, noise) for turn in range(1, 6)])
        assert (turns.sum(axis=0) == 1).all()
        # A client that comes or goes changes nobody else's turn.
        fewer = strategy.takes_part(NAMES[:100], 5 * tree + 1, noise)
        assert (fewer == turns[0, :100]).all()


@pytest.mark.parametrize(("every", "rounds"), [(1, 3), (5, 20), (8, 12)])
def test_epsilon_agrees_with_dp_accounting(every, rounds):
    strategy = ftrl(restart_every=every)
    sigma = strategy.calibrate(rounds)
    oracle = oracle_rdp.RdpAccountant(ORDERS)
    for number in range(1, rounds + 1):
        for event in strategy.spends(number, sigma):
            oracle.compose(dp_accounting.GaussianDpEvent(event.noise_multiplier), event.steps)
    assert oracle.get_epsilon(1e-5) == pytest.approx(8.0, rel=0.01)
    whole = [len(strategy.spends(number, sigma)) for number in range(1, every + 1)]
    assert whole == [1] + [0] * (every - 1)


@pytest.mark.parametrize("every", [1, 2, 3, 4, 7, 8])
def test_no_round_enters_more_nodes_than_are_paid_for(every):
    """Node l of a prefix t covers the rounds that its bit stands for; each round is counted over all prefixes."""
    entered = {number: set() for number in range(1, every + 1)}
    for prefix in range(1, every + 1):
        start = 0
        for level in reversed(range(prefix.bit_length())):
            if prefix >> level & 1:
                for number in range(start + 1, start + 2**level + 1):
                    entered[number].add((level, start))
                start += 2**level
    assert max(len(nodes) for nodes in entered.values()) == ftrl(restart_every=every).nodes_of_a_client


def test_momentum_and_checkpoints_compose(tmp_path):
    strategy = bound(ftrl(inner=FedAvgM(momentum=0.5), restart_every=3), seeded(2))
    straight = resumed = strategy.init(MODEL)
    for number in range(1, 8):
        updates = [update(0, filled(0.1 * number))]
        straight, resumed = one_round(strategy, straight, updates), one_round(strategy, resumed, updates)
        save_checkpoint(tmp_path, Checkpoint(resumed, number, 0, ""))
        loaded = load_checkpoint(tmp_path)
        assert loaded is not None
        resumed = loaded.state
    assert digest(straight.model) == digest(resumed.model)
    assert "dp_ftrl" not in strategy.broadcast(resumed)


def test_a_tree_of_no_rounds_is_refused():
    args = {"epsilon": 8.0, "expected_clients": 3, "restart_every": 0}
    with pytest.raises(ConfigError, match=r"strategy\.args\.restart_every: expected at least 1"):
        build_strategy("dp_ftrl", None, args)
