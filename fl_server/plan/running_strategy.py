"""The server's half of a strategy as a run calls it: the one place where a strategy's own code runs on a server.

Model and slots that a strategy gave are read-only from then on, so nobody changes a model that is evaluated, published
or kept under the same name. What it gives back is looked at before anything else happens with it. Whatever is wrong
with that, and whatever its code raises, ends the run in one line with the config's field and the round; the last good
round stays.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace

from fl_core.errors import ConfigError, StonecropError
from fl_core.own_code import described, own_place
from fl_core.tree import frozen
from fl_core.types import ClientUpdate, Tensors
from strategies.base import Strategy, StrategyState
from strategies.given_back import check_groups, check_is_state, check_state


@dataclass(frozen=True)
class RunningStrategy:
    """A strategy, and how the config names it."""

    strategy: Strategy
    field: str
    """As "strategy.factory mine:Calm"."""
    own: bool
    """Whether it is somebody else's code, and not a row of our table."""

    def init(self, model: Tensors) -> StrategyState:
        """The state before the first round."""
        with self.called():
            return _kept(check_state("init", self.strategy.init(model), model, version=0))

    def broadcast(self, state: StrategyState, round: int) -> Mapping[str, Tensors]:
        """What travels to every client with the model, by slot and name."""
        with self.called(round):
            groups = self.strategy.broadcast(state)
            check_groups("broadcast", groups)
            return groups

    def accumulate(self, state: StrategyState, update: ClientUpdate, round: int) -> StrategyState:
        """The state with one admitted update added.

        Raises:
            UpdateRejectedError: the strategy does not take this update.
        """
        with self.called(round):
            return check_is_state("accumulate", self.strategy.accumulate(state, update))

    def ready(self, state: StrategyState, round: int) -> bool:
        """Whether the round may end before its cohort has answered."""
        with self.called(round):
            return bool(self.strategy.ready(state))

    def finish(self, state: StrategyState, round: int) -> StrategyState:
        """The state after the round."""
        with self.called(round):
            lent = _kept(state)
            return _kept(check_state("server_step", self.strategy.finish(lent), state.model, state.version + 1))

    @contextmanager
    def called(self, round: int = 0) -> Iterator[None]:
        """Inside, the strategy's code runs for a round, or for the run where that is 0.

        Raises:
            ConfigError: what it gave back is wrong, or it raised something; with the place in the user's code.
        """
        where = f"{self.field}: round {round}" if round else self.field
        try:
            yield
        except ConfigError as error:
            raise ConfigError([f"{where}: {problem}" for problem in error.problems]) from error
        except (StonecropError, KeyboardInterrupt):
            raise
        except BaseException as error:
            # What no code of a user's raised is a defect of ours, or the disk that is full.
            if not own_place(error) and (not self.own or isinstance(error, OSError)):
                raise
            raise ConfigError(f"{where}: {described(error)}") from error


def _kept(state: StrategyState) -> StrategyState:
    """The state with a model and slots that cannot be written to, in mappings of its own."""
    slots = {name: frozen(tensors) for name, tensors in state.slots.items()}
    return replace(state, model=frozen(state.model), slots=slots)
