"""What the server half of a strategy promises: order-free, weights as documented, resumable, calm when nobody answers.

Excused by their traits from the checks on equal updates and weights: ``asynchronous``, where each update counts by its
age, and ``central_dp``, which adds noise and divides by a public number. The latter also releases noise for a round in
which nobody answered, for that nobody did is not public.
"""

from __future__ import annotations

from itertools import islice, permutations
from pathlib import Path

import numpy as np
import pytest

from fl_core.tree import digest
from fl_core.types import Tensors
from fl_server.rounds.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from simulation.conformance import data
from simulation.conformance.subject import bits, make
from strategies.base import MODEL_PART, Strategy

NO_PLAIN_MEAN = frozenset({"asynchronous", "central_dp"})


def excuse(strategy: Strategy) -> None:
    """Skip where the algorithm is no mean of a cohort."""
    if strategy.traits & NO_PLAIN_MEAN:
        pytest.skip(f"not promised by {', '.join(sorted(strategy.traits & NO_PLAIN_MEAN))}")


def largest_gap(left: Tensors, right: Tensors) -> float:
    """Largest absolute difference of any element of two sets of tensors."""
    return max(float(np.abs(left[name] - right[name]).max()) for name in left)


class ServerHalf:
    """Pure checks on ``init``, ``accumulate`` and ``finish``."""

    def test_any_order_of_replies_gives_the_same_bits(self, strategy: Strategy) -> None:
        """Sums are exact, and a list is sorted before it is used."""
        state = strategy.init(data.model())
        answered = data.updates(strategy, state, (5, 1, 100, 3, 7, 2, 9))
        orders = [answered, answered[::-1], *islice(permutations(answered), 700, 5000, 1000)]
        assert len({bits(data.finish(strategy, state, order)) for order in orders}) == 1

    def test_equal_updates_do_not_depend_on_their_number_or_weights(self, strategy: Strategy) -> None:
        """A mean of equal things is that thing."""
        excuse(strategy)
        state = strategy.init(data.model())
        same = data.drawn(strategy, "same")
        few = [data.update(strategy, state, client, same) for client in data.CLIENT_IDS[:5]]
        many = [data.update(strategy, state, client, same, n + 1) for n, client in enumerate(data.CLIENT_IDS)]
        gap = largest_gap(data.finish(strategy, state, few).model, data.finish(strategy, state, many).model)
        assert gap <= 1e-5

    def test_weights_are_honoured_or_all_are_equal(self, strategy: Strategy) -> None:
        """A weight of 3 counts as three clients, or it counts as one; nothing between."""
        excuse(strategy)
        state = strategy.init(data.model())
        weighted = data.finish(strategy, state, data.updates(strategy, state, (3, 1, 1, 1, 1, 1, 1))).model
        equal = data.finish(strategy, state, data.updates(strategy, state, (1,) * 7)).model
        scaled = data.finish(strategy, state, data.updates(strategy, state, (30, 10, 10, 10, 10, 10, 10))).model
        assert largest_gap(scaled, weighted) <= 1e-5, "only the ratios of weights may count"
        unweighted = strategy.needs_all or strategy.traits & {"robust", "uses_losses"}
        if unweighted and largest_gap(weighted, equal) <= 1e-6:
            return
        assert largest_gap(weighted, equal) > 1e-6, "a plain mean must use the weights"

    def test_the_model_stays_finite_and_keeps_its_names_and_shapes(self, strategy: Strategy) -> None:
        """Checked after three rounds of all clients."""
        state = strategy.init(data.model())
        for number in range(3):
            state = data.finish(strategy, state, data.updates(strategy, state, range(1, 8), number))
        assert {n: (t.shape, t.dtype) for n, t in state.model.items()} == {
            n: (t.shape, t.dtype) for n, t in data.model().items()
        }
        assert all(np.isfinite(tensor).all() for tensor in state.model.values())
        assert not state.sums
        assert not state.updates
        assert state.version == 3

    def test_what_stays_at_home_is_not_moved(self, strategy: Strategy) -> None:
        """Tensors that stay at home are never seen by the server, so they keep their bits."""
        start = data.model()
        state = strategy.init(start)
        state = data.finish(strategy, state, data.updates(strategy, state, (1,) * 7))
        for name in strategy.stays_home(list(start)):
            np.testing.assert_array_equal(state.model[name], start[name])

    def test_a_round_without_updates_keeps_the_model(self, strategy: Strategy) -> None:
        """Nobody asked, nobody answered, or nobody in time."""
        before = strategy.init(data.model())
        after = strategy.finish(before)
        assert all(np.isfinite(tensor).all() for tensor in after.model.values())
        if "central_dp" in strategy.traits:
            return
        assert digest(after.model) == digest(before.model)
        assert after.version == before.version + 1

    def test_a_round_whose_updates_were_all_rejected_keeps_the_state(self, strategy: Strategy) -> None:
        """Below the quorum the server drops what it has summed."""
        before = strategy.init(data.model())
        before = data.finish(strategy, before, data.updates(strategy, before, (1,) * 7))
        state = before
        for each in data.updates(strategy, before, (1,) * 7, round=1)[:2]:
            state = strategy.accumulate(state, each)
        after = strategy.finish(data.rejected(state))
        assert after.version == before.version + 1
        assert bits(after) == bits(before) or "central_dp" in strategy.traits

    @pytest.mark.parametrize("count", [1, 2])
    def test_a_round_of_one_or_two_clients_is_survived(self, strategy: Strategy, count: int) -> None:
        """The model stays finite, whether they move it or not."""
        state = strategy.init(data.model())
        state = data.finish(strategy, state, data.updates(strategy, state, (4, 2))[:count])
        assert all(np.isfinite(tensor).all() for tensor in state.model.values())
        assert state.version == 1

    def test_an_update_of_zeros_is_survived(self, strategy: Strategy) -> None:
        """A client that learned nothing divides nothing by zero."""
        state = strategy.init(data.model())
        zeros = {name: np.zeros_like(t) for name, t in data.travelling(strategy).items()}
        answered = [data.update(strategy, state, client, zeros) for client in data.CLIENT_IDS]
        assert all(np.isfinite(t).all() for t in data.finish(strategy, state, answered).model.values())

    def test_the_state_given_in_is_left_as_it_was(self, strategy: Strategy) -> None:
        """State is a value: finishing a round changes nothing that it was given."""
        before = strategy.init(data.model())
        before = data.finish(strategy, before, data.updates(strategy, before, (1,) * 7))
        kept = bits(before)
        first = data.finish(strategy, before, data.updates(strategy, before, (3,) * 7, round=1))
        second = data.finish(strategy, before, data.updates(strategy, before, (3,) * 7, round=1))
        assert bits(before) == kept
        assert bits(first) == bits(second)
        assert not before.sums
        assert not before.updates

    def test_resume_from_a_checkpoint_is_bit_identical(
        self, strategy: Strategy, section: dict[str, object], tmp_path: Path
    ) -> None:
        """Written to a file and read back after each round, by a strategy that is made anew."""
        straight = strategy.init(data.model())
        for number in range(4):
            straight = data.finish(strategy, straight, data.updates(strategy, straight, range(1, 8), number))
        state = make(section).init(data.model())
        for number in range(4):
            fresh = make(section)
            state = data.finish(fresh, state, data.updates(fresh, state, range(1, 8), number))
            save_checkpoint(tmp_path, Checkpoint(state, number + 1, 0, ""))
            loaded = load_checkpoint(tmp_path)
            assert loaded is not None
            state = loaded.state
        assert bits(state) == bits(straight)

    def test_memory_of_a_round_does_not_grow_with_its_clients(self, strategy: Strategy) -> None:
        """Unless the algorithm says that it needs all updates at once."""
        state = strategy.init(data.model())
        sizes = []
        for each in data.updates(strategy, state, (1,) * 7):
            state = strategy.accumulate(state, each)
            sizes.append(sum(t.nbytes for total in state.sums.values() for t in total.totals.values()))
        assert sizes[-1] - sizes[0] <= 64 * len(sizes), "a few numbers a client at most"
        assert bool(state.updates) == strategy.needs_all
        assert MODEL_PART in state.sums or strategy.needs_all
