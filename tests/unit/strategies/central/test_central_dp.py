"""CentralDP: three clients by hand, one client's influence, the size of the noise, and what it costs."""

from __future__ import annotations

import math
from collections import Counter
from itertools import permutations

import dp_accounting
import numpy as np
import pytest
from dp_accounting import rdp as oracle_rdp
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from fl_core.errors import ConfigError, PrivacyError
from fl_core.privacy.accountant import ORDERS
from fl_core.rng import SecretNoise, SeededNoise
from fl_core.tree import FRACTION_BITS, digest, norm
from fl_server.rounds.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from strategies.central.central_dp import BELOW, CentralDP
from strategies.central.clipping import clip_jointly
from strategies.fedadam import FedAdam
from strategies.registry import build_strategy
from strategies.scaffold import Scaffold
from support.central import MODEL, NoNoise, bound, filled, one_round, seeded, update

SQRT8 = math.sqrt(8)  # the model has eight weights


def central(**args) -> CentralDP:
    return CentralDP(**{"epsilon": 8.0, "expected_clients": 3, **args})


def sum_of(state) -> dict[str, np.ndarray]:
    return {name: total * 2.0**-FRACTION_BITS for name, total in state.sums["delta"].totals.items()}


def test_three_clients_by_hand():
    strategy = bound(central(clip_norm=SQRT8))
    # Norms are sqrt(8) * |value|: 0.5 stays, 4 becomes 1, -2 becomes -1; weights count for nothing.
    updates = [update(0, filled(0.5), 1), update(1, filled(4.0), 1000), update(2, filled(-2.0), 1)]
    state = one_round(strategy, strategy.init(MODEL), updates)
    for tensor in state.model.values():
        np.testing.assert_allclose(tensor, 0.5 / 3, rtol=1e-5)


def test_the_divisor_is_public_whoever_comes():
    strategy = bound(central(clip_norm=SQRT8))
    state = one_round(strategy, strategy.init(MODEL), [update(0, filled(0.6))])
    np.testing.assert_allclose(state.model["b"], 0.2, rtol=1e-5)


@settings(max_examples=60, deadline=None)
@given(
    exponent=st.floats(-12, 8), seed=st.integers(0, 1000), weight=st.integers(1, 10**6),
    clip_norm=st.floats(1e-3, 1e3), others=st.integers(0, 3),
)  # fmt: skip
def test_one_client_moves_the_sum_by_at_most_the_clip_norm(exponent, seed, weight, clip_norm, others):
    draw = np.random.default_rng(seed)
    delta = {name: (10.0**exponent * draw.standard_normal(t.shape)).astype(np.float32) for name, t in MODEL.items()}
    strategy = central(clip_norm=clip_norm)
    without = strategy.init(MODEL)
    for client in range(others):
        without = strategy.accumulate(without, update(client, filled(float(client)), 7))
    moved = sum_of(strategy.accumulate(without, update(9, delta, weight)))
    before = sum_of(without) if others else {name: np.zeros(t.shape) for name, t in MODEL.items()}
    assert norm({name: moved[name] - before[name] for name in moved}) <= clip_norm


def test_parts_are_clipped_together():
    parts = {"delta": filled(3.0), "control": filled(4.0)}
    clipped = clip_jointly(parts, 1.0)
    assert math.hypot(norm(clipped["delta"]), norm(clipped["control"])) == pytest.approx(1.0, rel=1e-5)
    assert norm(clipped["delta"]) / norm(clipped["control"]) == pytest.approx(0.75)


def test_a_clip_norm_below_rounding_is_refused():
    with pytest.raises(PrivacyError, match="clip_norm: expected more than the rounding of 8 summed values"):
        clip_jointly({"delta": filled(1.0)}, 1e-9)


@pytest.mark.parametrize("updates", [[], [update(0, filled(0.0))]], ids=["nobody", "an update of zeros"])
def test_a_round_of_nothing_releases_noise_of_the_same_size(updates):
    strategy = bound(central(target_quantile=0.5), seeded(1))
    state = one_round(strategy, strategy.init(MODEL), updates)
    assert state.version == 1
    assert all(np.isfinite(t).all() and np.count_nonzero(t) for t in state.model.values())


@pytest.mark.parametrize("source", [SecretNoise(), SeededNoise(3, "test", 1, "server")], ids=["secret", "seeded"])
@pytest.mark.parametrize(("quantile", "share"), [(None, 0.0), (0.5, 0.3)])
def test_the_noise_has_the_promised_variance_beside_unequal_counts(source, quantile, share):
    model = {"w": np.zeros((400, 250), np.float32)}
    strategy = bound(
        central(clip_norm=0.5, expected_clients=4, target_quantile=quantile, clip_share=0.3),
        lambda _: source,
        model,
        1.7,
    )
    ones = {"w": np.ones((400, 250), np.float32)}
    state = one_round(strategy, strategy.init(model), [update(k, ones, weight) for k, weight in enumerate((1, 1000))])
    # two clipped clients: the mean is 2 * 0.5 / sqrt(100000) / 4 everywhere
    draws = (state.model["w"].astype(np.float64).ravel() - 1.0 / math.sqrt(1e5) / 4) * 4
    std = 1.7 * 0.5 / math.sqrt(1 - share)
    low, high = stats.chi2.ppf([5e-7, 1 - 5e-7], draws.size)
    assert low < float(np.square(draws / std).sum()) < high


def test_update_and_count_share_one_budget():
    sigma, share = 1.3, 0.2
    strategy = central(target_quantile=0.5, clip_share=share, clip_norm=2.0)
    state = strategy.init(MODEL)

    class Ones(NoNoise):
        def normal(self, step, tensor, shape):
            return np.ones(shape)

    released = strategy.make(state, strategy.parts(MODEL), sigma, Ones())
    delta_std, count_std = 3 * float(released["delta/b"][0]), 3 * float(released[f"{BELOW}/{BELOW}"][0])
    # sensitivities 2 and 1/2; Gaussians add up in inverse squares
    assert (2 / delta_std) ** 2 + (0.5 / count_std) ** 2 == pytest.approx(sigma**-2, rel=1e-5)
    assert (0.5 / count_std) ** 2 * sigma**2 == pytest.approx(share, rel=1e-5)


def test_the_clip_norm_finds_its_quantile():
    strategy = bound(central(expected_clients=9, target_quantile=0.5, clip_norm=40.0, clip_learning_rate=0.3))
    state = strategy.init(MODEL)
    updates = [update(k, filled((k + 1) / SQRT8)) for k in range(9)]  # norms 1 to 9
    for _ in range(60):
        state = one_round(strategy, state, updates)
    assert 4.5 <= strategy.current_clip_norm(state) <= 5.5
    first = one_round(strategy, strategy.init(MODEL), updates)
    assert strategy.current_clip_norm(first) == pytest.approx(40 * math.exp(-0.3 * (1.0 - 0.5)))


@pytest.mark.parametrize(("rate", "rounds"), [(1.0, 10), (0.1, 200)])
def test_epsilon_agrees_with_dp_accounting(rate, rounds):
    strategy = central(sample_rate=rate, delta=1e-6)
    sigma = strategy.calibrate(rounds)
    oracle = oracle_rdp.RdpAccountant(ORDERS)
    spent = Counter(event for number in range(1, rounds + 1) for event in strategy.spends(number, sigma))
    for event, times in spent.items():
        gaussian = dp_accounting.GaussianDpEvent(event.noise_multiplier)
        oracle.compose(dp_accounting.PoissonSampledDpEvent(event.sample_rate, gaussian), times * event.steps)
    assert spent.total() == rounds
    assert oracle.get_epsilon(1e-6) == pytest.approx(8.0, rel=0.01)


def test_clients_are_drawn_one_by_one_with_the_rate():
    strategy = central(sample_rate=0.3)
    names = [f"client-{k}" for k in range(2000)]
    drawn = [strategy.takes_part(names, round, SeededNoise(0, "test", round, "server")) for round in range(5)]
    assert {int(mask.sum()) for mask in drawn} != {600}
    assert all(500 < mask.sum() < 700 for mask in drawn)
    assert central().takes_part(names, 1, SecretNoise()).all()


def test_the_order_of_replies_changes_no_bit():
    strategy = bound(central(target_quantile=0.5, inner=FedAdam()), seeded(2))
    updates = [update(k, filled(value)) for k, value in enumerate((0.1, -3.0, 0.7))]
    states = [one_round(strategy, strategy.init(MODEL), list(order)) for order in permutations(updates)]
    assert len({digest(state.model) for state in states}) == 1


def test_resume_from_a_checkpoint_is_bit_identical(tmp_path):
    strategy = bound(central(target_quantile=0.5, inner=FedAdam()), seeded(2))
    straight = resumed = strategy.init(MODEL)
    for number in range(1, 5):
        updates = [update(k, filled(k - number)) for k in range(3)]
        straight, resumed = one_round(strategy, straight, updates), one_round(strategy, resumed, updates)
        save_checkpoint(tmp_path, Checkpoint(resumed, number, 0, ""))
        loaded = load_checkpoint(tmp_path)
        assert loaded is not None
        resumed = loaded.state
    assert digest(straight.model) == digest(resumed.model)
    assert sorted(resumed.slots) == ["central_dp", "first_moment", "second_moment"]


def test_the_step_of_the_inner_strategy_follows_the_noise():
    """One round of FedAdam over the noisy mean; the controls of SCAFFOLD move by a public share, not by who came."""
    plain = bound(central(), seeded(4))
    mean = one_round(plain, plain.init(MODEL), [update(0, filled(0.1))]).model
    adam = bound(central(inner=FedAdam()), seeded(4))
    stepped = one_round(adam, adam.init(MODEL), [update(0, filled(0.1))])
    expected = FedAdam().server_step(FedAdam().init(MODEL), {"delta": mean})
    assert digest(stepped.model) == digest(expected.model)
    scaffold = bound(central(inner=Scaffold(clients=6), clip_norm=100.0))
    state = one_round(scaffold, scaffold.init(MODEL), [update(0, filled(0.3), control=filled(0.6))])
    np.testing.assert_allclose(state.slots["control"]["b"], 0.6 / 3 * (3 / 6), rtol=1e-5)


@pytest.mark.parametrize(
    ("inner", "why"),
    [("krum", "not known"), ("qfedavg", "losses weigh the sum"), ("norm_bound", "not known"), ("afl", "losses")],
)
def test_what_has_no_known_sensitivity_is_refused_with_the_reason(inner, why):
    args = {"epsilon": 1.0, "expected_clients": 3, "inner": {"name": inner}}
    with pytest.raises(ConfigError, match=rf"strategy.args.inner: .*{why}"):
        build_strategy("central_dp", None, args)


def test_noise_is_added_once():
    inner = {"name": "central_dp", "args": {"epsilon": 1.0, "expected_clients": 3}}
    with pytest.raises(ConfigError, match="noise for whole clients is added once"):
        build_strategy("central_dp", None, {"epsilon": 1.0, "expected_clients": 3, "inner": inner})


@pytest.mark.parametrize(
    ("field", "value"),
    [("epsilon", 0), ("delta", 1), ("clip_norm", 0), ("expected_clients", 0), ("sample_rate", 1.5),
     ("target_quantile", 1.0), ("clip_share", 0), ("clip_learning_rate", 0), ("accountant", "guess")],
)  # fmt: skip
def test_hyperparameters_out_of_range_are_refused(field, value):
    with pytest.raises(ConfigError, match=f"strategy.args.{field}: expected"):
        build_strategy("central_dp", None, {"epsilon": 8.0, "expected_clients": 3, field: value})


def test_without_a_mechanism_nothing_is_released():
    strategy = central()
    with pytest.raises(PrivacyError, match="CentralDP: expected a mechanism"):
        strategy.finish(strategy.init(MODEL))
