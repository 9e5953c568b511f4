"""A Flower strategy as one of ours: any class of ``flwr.serverapp.strategy``, or of a user, runs by naming it.

    strategy: {factory: "flwr.serverapp.strategy:FedAdam", args: {eta: 0.05}}

A Flower strategy gives whole weights and keeps its state on itself. So each round its state comes from the slot
``flower``, ``configure_train`` sees the model, ``aggregate_train`` the trained weights (model + delta) in the order
of the client_ids with the weight of the update as their number of examples, and what it keeps goes back into the slot.
Global generators are seeded from model and round and put back afterwards, so a round is a function of its state. Where
an attribute cannot be kept, the log says which: then a resumed run is not the same to the bit.

Who takes part is our round's business (``clients.per_round``), how clients train is our config's; of what a strategy
writes into its train config only FedProx's ``proximal-mu`` is honoured. The rest is named in the log.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict
from flwr.serverapp import Grid
from flwr.serverapp.strategy import FedProx
from flwr.serverapp.strategy import Strategy as Theirs
from flwr.supercore.run import Run

from fl_core.errors import ConfigError, RoundError
from fl_core.flower_private import borrowed_identity
from fl_core.parts import LOSS_PART, expected_tensors
from fl_core.registry import Maker, find_maker
from fl_core.rng import derive_seed
from fl_core.tree import digest, subtract, zeros_like
from fl_core.types import ClientUpdate, FloatArray, Tensors
from strategies.base import MODEL_PART, Strategy, StrategyState, Trait
from strategies.client import ClientContext, LocalOutcome
from strategies.flower.snapshot import restore, snapshot
from strategies.losses import loss_of, loss_part

if TYPE_CHECKING:
    import torch

logger = logging.getLogger(__name__)

FLOWER_SLOT = "flower"
_NEW_MODEL = "model"
_HONOURED = {"server-round", "proximal-mu"}
_NO_CLIPPING = (
    "its noise is for updates that Flower's client mod clips, and clients here do not run it: nothing would bound what "
    "the noise is to hide; use a privacy section"
)
_NO_TREES = "it merges XGBoost trees; clients here train tensors of a neural network"
REFUSED: Mapping[str, str] = {
    "DifferentialPrivacyClientSideAdaptiveClipping": _NO_CLIPPING,
    "DifferentialPrivacyClientSideFixedClipping": _NO_CLIPPING,
    "FedXgbBagging": _NO_TREES,
    "FedXgbCyclic": _NO_TREES,
}
"""Classes of Flower that cannot run here, and their subclasses, with the reason."""
NO_GUARANTEE = (
    "gives no privacy guarantee here: its noise is drawn from a public seed, it assumes equal weights while Flower "
    "weights by examples, and no ledger accounts for it"
)
"""What is said of Flower's central DP, which runs."""


@dataclass(frozen=True)
class FlowerStrategy(Strategy):
    """Runs ``theirs``. Its sensitivity to one client is not known, whichever class it is: hence ``robust``.

    Raises:
        RoundError: Flower's code failed, or gave tensors that are not the model's.
    """

    theirs: Theirs
    start: Tensors = field(init=False, repr=False, compare=False)
    """What ``theirs`` kept on itself before its first round."""

    needs_all = True
    traits = frozenset[Trait]({"robust"})

    def __post_init__(self) -> None:
        refuse(type(self.theirs), "strategy")
        if any(kind.__name__.startswith("DifferentialPrivacy") for kind in type(self.theirs).__mro__):
            _say(self.theirs, NO_GUARANTEE)
        kept, lost = snapshot(self.theirs)
        object.__setattr__(self, "start", kept)
        if _attribute(self.theirs, "train_loss_key") is not None:
            object.__setattr__(self, "traits", self.traits | {"uses_losses"})
        _say_lost(self.theirs, lost)

    def correction(self, params: Mapping[str, torch.Tensor], context: ClientContext) -> Mapping[str, torch.Tensor]:
        """FedProx's proximal term, which Flower leaves to the clients: proximal_mu * (w - w_global)."""
        if not isinstance(self.theirs, FedProx):
            return {}
        mu = self.theirs.proximal_mu
        return {name: mu * (param.detach() - context.anchor[name]) for name, param in params.items()}

    def conclude(self, outcome: LocalOutcome) -> tuple[Mapping[str, Tensors], Mapping[str, Tensors]]:
        """The update, with the loss of the received model where the strategy asks for one."""
        if "uses_losses" not in self.traits:
            return {MODEL_PART: outcome.delta}, {}
        return {MODEL_PART: outcome.delta, LOSS_PART: loss_part(outcome)}, {}

    def parts(self, model: Tensors) -> Mapping[str, Tensors]:
        """The change of the weights, and the loss where the strategy asks for one."""
        loss = {LOSS_PART: expected_tensors(LOSS_PART)} if "uses_losses" in self.traits else {}
        return {MODEL_PART: model, **loss}

    def init(self, model: Tensors) -> StrategyState:
        """What the strategy kept when it was made is the first value of its slot."""
        return StrategyState(model=model, slots={FLOWER_SLOT: self.start})

    def combine(self, state: StrategyState, updates: Sequence[ClientUpdate]) -> Mapping[str, Tensors]:
        """One round of Flower's strategy, from the state in the slot."""
        name = type(self.theirs).__name__
        restore(self.theirs, state.slots[FLOWER_SLOT])
        number = state.version + 1
        with borrowed_identity(), _seeded(derive_seed(FLOWER_SLOT, name, number, digest(state.model))):
            arrays = _record(state.model)
            try:
                grid = CountedNodes(max(len(updates), _fewest(self.theirs)))
                sent = list(self.theirs.configure_train(number, arrays, ConfigRecord(), grid))
                replies = [self._reply(node, state.model, update) for node, update in enumerate(updates, start=2)]
                aggregated, _ = self.theirs.aggregate_train(number, replies)
            except Exception as error:  # whatever a stranger's code may raise
                raise RoundError(f"strategy {name}: round {number} failed in Flower: {_words(error)}") from error
        _say_not_honoured(self.theirs, sent, arrays)
        kept, lost = snapshot(self.theirs)
        _say_lost(self.theirs, lost)
        if aggregated is None:
            logger.warning("strategy %s: made no model of %d updates; it stays as it was", name, len(updates))
            return {MODEL_PART: zeros_like(state.model), _NEW_MODEL: state.model, FLOWER_SLOT: kept}
        model = _tensors(aggregated, state.model, name)
        return {MODEL_PART: subtract(model, state.model), _NEW_MODEL: model, FLOWER_SLOT: kept}

    def server_step(self, state: StrategyState, means: Mapping[str, Tensors]) -> StrategyState:
        """The weights that Flower's strategy gave, as they are."""
        return StrategyState(model=means[_NEW_MODEL], version=state.version, slots={FLOWER_SLOT: means[FLOWER_SLOT]})

    def _reply(self, node: int, model: Tensors, update: ClientUpdate) -> Message:
        trained = {**model, **{name: model[name] + t for name, t in update.parts[MODEL_PART].tensors.items()}}
        metrics: dict[str, int | float] = {str(_attribute(self.theirs, "weighted_by_key")): update.weight}
        if LOSS_PART in update.parts:
            metrics[str(_attribute(self.theirs, "train_loss_key"))] = loss_of(update)
        key = str(_attribute(self.theirs, "arrayrecord_key"))
        content = RecordDict({key: _record(trained), "metrics": MetricRecord(dict(metrics))})
        return Message(content, reply_to=Message(RecordDict(), node, "train"))


_DEFAULTS = {"weighted_by_key": "num-examples", "arrayrecord_key": "arrays"}


def build_theirs(maker: Maker, args: Mapping[str, Any]) -> Any:
    """What ``maker`` makes of ``args``; a strategy that wraps another has it as ``strategy: {factory, args}``.

    Raises:
        ConfigError: the class is one that cannot run here, or it refuses its args.
    """
    where = maker.section
    refuse(maker.make, where)
    args = dict(args)
    inner = args.get("strategy")
    if isinstance(inner, Mapping):
        if "factory" not in inner or inner.keys() - {"factory", "args"}:
            raise ConfigError(f"{where}.args.strategy: expected a factory, and args, got {sorted(inner)}")
        wrapped = find_maker(f"{where}.args.strategy", None, inner["factory"], {})
        args["strategy"] = build_theirs(wrapped, inner.get("args") or {})
    theirs = maker(args)
    ignored = sorted(key for key in args if key.startswith(("fraction_", "min_")))
    if ignored:
        _say(theirs, f"{', '.join(ignored)} not used; clients.per_round says who trains")
    return theirs


def refuse(kind: object, where: str) -> None:
    """Refuse a class of Flower's strategies that cannot run here, and its subclasses.

    Raises:
        ConfigError: the message says why.
    """
    for base in getattr(kind, "__mro__", ()):
        if base.__module__.startswith("flwr.") and base.__name__ in REFUSED:
            raise ConfigError(f"{where}: Flower's {base.__name__} cannot run here: {REFUSED[base.__name__]}")


class CountedNodes(Grid):
    """A Grid of nodes that are only counted; asked again, it has more, so that nobody waits for ever."""

    def __init__(self, nodes: int) -> None:
        self._nodes, self._asked = nodes, 0

    def set_run(self, run: Run) -> None:
        """Ignored: no run stands behind this Grid."""

    @property
    def run(self) -> Run:
        """An empty run, for strategies that ask for one."""
        return Run.create_empty(0)

    def create_message(
        self, content: RecordDict, message_type: str, dst_node_id: int, group_id: str, ttl: float | None = None
    ) -> Message:
        """Make a message to one node, as Flower's own Grid does; it is never sent."""
        return Message(content, dst_node_id, message_type, ttl=ttl, group_id=group_id)

    def get_node_ids(self) -> Iterable[int]:
        """Ids of as many nodes as there are updates; twice as many at each call from the third on."""
        self._asked += 1
        self._nodes *= 1 if self._asked < 3 else 2
        return list(range(2, 2 + self._nodes))

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """Refused with a RoundError, for the round loop of Stonecrop asks the clients."""
        raise RoundError("expected configure_train to give its messages back, but it sent them itself")

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """No message: nothing was sent."""
        return []

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> Iterable[Message]:
        """Refused with a RoundError, for the round loop of Stonecrop asks the clients."""
        return self.pull_messages(self.push_messages(messages))


def _chain(theirs: Theirs) -> Iterator[Theirs]:
    """A strategy and those that it wraps."""
    inner: Any = theirs
    while isinstance(inner, Theirs):
        yield inner
        inner = getattr(inner, "strategy", None)


def _attribute(theirs: Theirs, name: str) -> object:
    return next((getattr(each, name) for each in _chain(theirs) if hasattr(each, name)), _DEFAULTS.get(name))


def _fewest(theirs: Theirs) -> int:
    """Nodes that a strategy waits for before it says whom it would ask."""
    numbers = [v for each in _chain(theirs) for k, v in vars(each).items() if k.startswith("min_")]
    return max((int(value) for value in numbers if isinstance(value, int)), default=1)


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Python's and numpy's global generators start from ``seed``, and are afterwards as if nothing had been drawn."""
    python, numpy = random.getstate(), np.random.get_state()
    random.seed(seed)
    np.random.seed(seed % 2**32)
    try:
        yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)


def _record(tensors: Tensors) -> ArrayRecord:
    return ArrayRecord({name: Array(tensors[name]) for name in sorted(tensors)})


def _tensors(record: ArrayRecord, model: Tensors, name: str) -> dict[str, FloatArray]:
    arrays = {key: array.numpy().astype(np.float32) for key, array in record.items()}
    if {k: a.shape for k, a in arrays.items()} != {k: t.shape for k, t in model.items()}:
        raise RoundError(f"strategy {name}: expected tensors of the model {sorted(model)}, got {sorted(arrays)}")
    return arrays


def _say_lost(theirs: Theirs, lost: Sequence[str]) -> None:
    if lost:
        _say(theirs, f"no checkpoint can hold {', '.join(lost)}; a resumed run is not exact")


def _say_not_honoured(theirs: Theirs, sent: Sequence[Message], arrays: ArrayRecord) -> None:
    contents = [message.content for message in sent[:1]]
    keys = {key for content in contents for record in content.config_records.values() for key in record} - _HONOURED
    if keys:
        _say(theirs, f"clients here do not read {', '.join(sorted(keys))} of its train config")
    if any(record is not arrays for content in contents for record in content.array_records.values()):
        _say(theirs, "it sends other arrays than the model; clients here get the model")


def _say(theirs: Theirs, what: str) -> None:
    say_once(f"strategy {type(theirs).__name__}: {what}")


@cache
def say_once(text: str) -> None:
    """Warn once a process, for a strategy is built anew for every task."""
    logger.warning(text)


def _words(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"
