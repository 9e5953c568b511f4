"""A strategy's own code in a run: nobody's model is written to, and what is wrong ends the run in one line."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pytest

from fl_core.errors import ConfigError, UpdateRejectedError
from fl_core.tree import add_scaled
from fl_core.types import ClientUpdate, Part, Tensors
from fl_server.plan.running_strategy import RunningStrategy
from strategies.base import MODEL_PART, Strategy, StrategyState
from strategies.fedavg import FedAvg

FIELD = "strategy.factory odd:Own"
Change = Callable[[StrategyState, Tensors], Any]


def model() -> dict[str, Any]:
    return {"b": np.zeros(2, np.float32), "w": np.ones((2, 3), np.float32)}


@dataclass(frozen=True)
class Own(Strategy):
    """FedAvg whose step is changed by ``change``."""

    change: Change = field(default=lambda state, means: state)

    def server_step(self, state: StrategyState, means: Mapping[str, Tensors]) -> StrategyState:
        stepped = replace(state, model=add_scaled(state.model, means[MODEL_PART], 1.0))
        return self.change(stepped, means[MODEL_PART])  # type: ignore[no-any-return]


def one_round(strategy: Strategy, state: StrategyState | None = None) -> StrategyState:
    running = RunningStrategy(strategy, FIELD, own=True)
    state = running.init(model()) if state is None else state
    delta = {name: np.full_like(tensor, 0.5) for name, tensor in state.model.items()}
    state = running.accumulate(state, ClientUpdate("task", "ada", 0, {MODEL_PART: Part(delta)}, 1, 1), 1)
    return running.finish(state, state.version + 1)


def with_model(**tensors: Any) -> Change:
    return lambda state, means: replace(state, model={**state.model, **tensors})


def with_slots(slots: Any) -> Change:
    return lambda state, means: replace(state, slots=slots)


@dataclass(frozen=True)
class InPlace(Strategy):
    """Writes into what it was given."""

    def init(self, model: Tensors) -> StrategyState:
        return StrategyState(model, slots={"kept": {"a": np.zeros(3)}})

    def server_step(self, state: StrategyState, means: Mapping[str, Tensors]) -> StrategyState:
        for name, tensor in state.model.items():
            tensor += means[MODEL_PART][name]
        return replace(state, model=state.model)


@dataclass(frozen=True)
class SlotInPlace(InPlace):
    def server_step(self, state: StrategyState, means: Mapping[str, Tensors]) -> StrategyState:
        state.slots["kept"]["a"][:] = 1
        return state


@pytest.mark.parametrize("strategy", [InPlace(), SlotInPlace()])
def test_a_strategy_that_writes_into_its_state_is_refused_with_its_line(strategy: Strategy) -> None:
    says = rf"{FIELD}: round 1: ValueError: .*read-only \(.*test_running_strategy.py, line \d+, in server_step\)"
    with pytest.raises(ConfigError, match=says):
        one_round(strategy)


def test_what_a_strategy_keeps_of_its_model_does_not_move_the_model() -> None:
    held: list[np.ndarray] = []

    def keeps(state: StrategyState, means: Tensors) -> StrategyState:
        whole = np.arange(6, dtype=np.float32)
        held.append(whole)
        return replace(state, model={**state.model, "w": whole.reshape(2, 3)})

    after = one_round(Own(keeps))
    before = after.model["w"].copy()
    held[0][:] = -1
    np.testing.assert_array_equal(after.model["w"], before)
    with pytest.raises(ValueError, match="read-only"):
        after.model["b"][:] = 1


def test_names_that_a_strategy_puts_into_its_model_are_no_model_of_before() -> None:
    def renames(state: StrategyState, means: Tensors) -> StrategyState:
        state.model["b"] = np.full(2, 7, np.float32)  # type: ignore[index]
        return state

    first = RunningStrategy(Own(), FIELD, own=True).init(model())
    assert one_round(Own(renames), first).model["b"].tolist() == [7, 7]
    assert first.model["b"].tolist() == [0, 0]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda state, means: None, "expected a StrategyState, got NoneType"),
        (lambda state, means: dict(state.model), "expected a StrategyState, got dict"),
        (with_model(w=np.full((2, 3), np.nan, np.float32)), "expected finite values, got 6 NaN or Inf of 6 in w"),
        (with_model(b=np.array([0, np.inf], np.float32)), "expected finite values, got 1 NaN or Inf of 2 in b"),
        (with_model(w=np.ones(3, np.float32)), r"expected w as float32 \[2, 3\], got float32 \[3\]"),
        (with_model(w=np.float32(0)), r"expected w as float32 \[2, 3\], got float32 \[\]"),
        (with_model(w=np.ones((2, 3))), r"expected w as float32 \[2, 3\], got float64 \[2, 3\]"),
        (with_model(w=[[1, 1, 1]] * 2), r"expected w as float32 \[2, 3\], got list"),
        (with_model(x=np.ones(1, np.float32)), r"expected a model of \[b, w\], got \[b, w, x\]"),
        (
            lambda state, means: replace(state, model={"w": state.model["w"]}),
            r"expected a model of \[b, w\], got \[w\]",
        ),
        (lambda state, means: replace(state, model=None), r"expected a model of \[b, w\], got None"),
        (with_slots({"a": {"w": "text"}}), "slots: expected a tensor as a/w, got str"),
        (with_slots({"a": np.ones(3)}), r"slots: expected tensors by name in a, got float64 \[3\]"),
        (with_slots({"a/b": {}}), "slots: expected a name without \"/\", got 'a/b'"),
        (with_slots(None), "slots: expected tensors by slot and name, got None"),
    ],
)
def test_what_a_step_gives_back_is_one_line_where_it_is_wrong(change: Change, says: str) -> None:
    with pytest.raises(ConfigError, match=f"^{FIELD}: round 1: server_step: {says}$") as caught:
        one_round(Own(change))
    assert len(caught.value.problems) == 1


def test_slots_of_any_numbers_are_kept() -> None:
    slots = one_round(Own(with_slots({"v": {"c": np.array(0.1) * 3, "n": np.arange(2)}}))).slots
    assert (slots["v"]["c"].shape, slots["v"]["n"].tolist()) == ((), [0, 1])


class Rubbish(Own):
    def init(self, model: Tensors) -> StrategyState:
        return StrategyState({**model, "w": None})  # type: ignore[dict-item]

    def accumulate(self, state: StrategyState, update: ClientUpdate) -> StrategyState:
        return None  # type: ignore[return-value]

    def broadcast(self, state: StrategyState) -> Mapping[str, Tensors]:
        return {"control": None}  # type: ignore[dict-item]

    def ready(self, state: StrategyState) -> bool:
        raise SystemExit(3)


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda running, state: running.init(model()), r"init: expected w as float32 \[2, 3\], got None"),
        (
            lambda running, state: running.accumulate(state, None, 4),
            "round 4: accumulate: expected a StrategyState, got None",
        ),
        (
            lambda running, state: running.broadcast(state, 4),
            "round 4: broadcast: expected tensors by name in control, got None",
        ),
        (
            lambda running, state: running.ready(state, 4),
            r"round 4: SystemExit: 3 \(.*test_running_strategy.py, line \d+, in ready\)",
        ),
    ],
)
def test_every_call_of_a_strategy_is_told_with_its_field(call: Callable[..., Any], says: str) -> None:
    with pytest.raises(ConfigError, match=f"^{FIELD}: {says}$"):
        call(RunningStrategy(Rubbish(), FIELD, own=True), StrategyState(model()))


def test_an_update_that_a_strategy_does_not_take_and_an_interrupt_are_no_faults_of_it() -> None:
    running = RunningStrategy(FedAvg(), FIELD, own=True)
    for error in (UpdateRejectedError("client ada: too large"), KeyboardInterrupt()):
        with pytest.raises(type(error)), running.called(1):
            raise error


def test_a_defect_of_a_strategy_of_ours_keeps_its_traceback() -> None:
    running = RunningStrategy(FedAvg(), "strategy.name fedavg", own=False)
    with pytest.raises(AttributeError):
        running.finish(replace(running.init(model()), sums=3), 1)  # type: ignore[arg-type]
