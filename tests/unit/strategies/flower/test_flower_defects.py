"""What Flower's strategies do wrong, each shown on Flower's own code: why ours differ, and why some are not trusted.

A test that fails here after an update of Flower is good news: the defect is gone, and the note about it goes too.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict
from flwr.serverapp import strategy as flower

from fl_core.errors import RoundError
from fl_core.flower_private import borrowed_identity
from fl_core.types import ClientUpdate, Part
from strategies.flower import adapter as adapter
from strategies.registry import build_strategy

ZERO = np.zeros(4, np.float32)


def replies_of(values: Sequence[np.ndarray], examples: Sequence[int]) -> list[Message]:
    contents = [
        RecordDict({"arrays": ArrayRecord({"w": Array(value)}), "metrics": MetricRecord({"num-examples": count})})
        for value, count in zip(values, examples, strict=True)
    ]
    with borrowed_identity():
        return [Message(each, reply_to=Message(RecordDict(), node + 2, "train")) for node, each in enumerate(contents)]


def begin(theirs: flower.Strategy, nodes: int, start: np.ndarray = ZERO) -> None:
    with borrowed_identity():
        list(theirs.configure_train(1, ArrayRecord({"w": Array(start)}), ConfigRecord(), adapter.CountedNodes(nodes)))


def central(norm: float, clients: int) -> flower.Strategy:
    return flower.DifferentialPrivacyServerSideFixedClipping(flower.FedAvg(), 0.0, norm, clients)


@pytest.mark.parametrize("kind", [flower.FedMedian, flower.FedTrimmedAvg])
def test_median_and_trimmed_mean_empty_the_replies_that_they_were_given(kind: type[flower.FedAvg]) -> None:
    replies = replies_of([ZERO + n for n in range(5)], [1] * 5)
    kind().aggregate_train(1, replies)
    assert [len(reply.content["arrays"]) for reply in replies] == [0] * 5


def test_central_dp_divides_by_zero_when_a_client_did_not_move() -> None:
    theirs = central(1.0, 2)
    begin(theirs, 2)
    with pytest.raises(ZeroDivisionError):
        theirs.aggregate_train(1, replies_of([ZERO, ZERO + 1], [1, 1]))


def test_named_in_a_config_it_ends_the_run_with_the_reason() -> None:
    args = {
        "strategy": {"factory": "flwr.serverapp.strategy:FedAvg"},
        "noise_multiplier": 0.0, "clipping_norm": 1.0, "num_sampled_clients": 1,
    }  # fmt: skip
    strategy = build_strategy(None, "flwr.serverapp.strategy:DifferentialPrivacyServerSideFixedClipping", args)
    state = strategy.accumulate(
        strategy.init({"w": ZERO}), ClientUpdate("task", "client", 0, {"delta": Part({"w": ZERO})}, 1, 1)
    )
    with pytest.raises(RoundError, match="ZeroDivisionError"):
        strategy.finish(state)


def test_central_dp_lets_one_client_of_three_move_the_mean_by_its_examples() -> None:
    theirs = central(1.0, 3)
    begin(theirs, 3)
    step = np.array([1, 0, 0, 0], np.float32)
    arrays, _ = theirs.aggregate_train(1, replies_of([step, -step, -step], [1000, 1, 1]))
    assert arrays is not None
    moved = float(arrays["w"].numpy()[0]) - -1.0  # without that client the mean is -1
    # its noise is scaled for a mean of three equal weights, which one client moves by at most 2/3
    assert moved > 1.99


def test_fedadams_bias_correction_starts_with_its_second_step() -> None:
    theirs = flower.FedAdam(eta=0.1, beta_1=0.9, beta_2=0.99, tau=1e-9)
    begin(theirs, 2)
    arrays, _ = theirs.aggregate_train(1, replies_of([ZERO + 1, ZERO + 1], [1, 1]))
    assert arrays is not None
    # Adam's first step has length eta whatever the gradient; Flower corrects with t + 1 and steps by 0.0742
    right = 0.1
    first = 0.1 * np.sqrt(1 - 0.99**2) / (1 - 0.9**2) * 0.1 / np.sqrt(0.01)
    np.testing.assert_allclose(arrays["w"].numpy(), first, rtol=1e-5)
    assert abs(first - right) > 0.02


def test_krum_counts_a_client_as_its_own_neighbour_where_two_updates_are_equal() -> None:
    # argsort may put an equal reply before the client itself, so distances are taken from float cancellation alone
    values = [np.full(4, 1e3, np.float32) + np.float32(n * 1e-3) for n in range(5)]
    from flwr.serverapp.strategy.multikrum import compute_distances

    distances = compute_distances([ArrayRecord({"w": Array(value)}) for value in values])
    exact = np.array([[np.square(a.astype(np.float64) - b).sum() for b in values] for a in values])
    assert np.abs(distances - exact).max() > 100 * exact.max()


def test_one_nan_makes_the_whole_mean_nan() -> None:
    arrays, _ = flower.FedAvg().aggregate_train(1, replies_of([ZERO + 1, ZERO + np.nan], [1, 1]))
    assert arrays is not None
    assert np.isnan(arrays["w"].numpy()).all()
