"""The sections of a config, each a frozen dataclass that checks its own values.

A section raises ValueError with the full name of its field, what was expected and what came; the loader collects them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from pydantic import Discriminator, Tag

from fl_core.config import limits
from fl_core.data.partition import PartitionSpec
from fl_core.export.registry import FormatSection, format_name
from fl_core.quant.spec import QuantSpec

Args = Mapping[str, Any]


def _require(ok: bool, name: str, expected: str, got: object) -> None:
    if not ok:
        raise ValueError(f"{name}: expected {expected}, got {got!r}")


def _require_one(section: str, name: str | None, factory: str | None) -> None:
    both = f"name={name!r}, factory={factory!r}"
    _require((name is None) != (factory is None), section, f"exactly one of {section}.name and {section}.factory", both)


@dataclass(frozen=True)
class RunSection:
    """What the run is called, how long it is and where it goes."""

    name: str
    seed: int = 1
    rounds: int = 20
    out: str = "runs"
    companion: str | None = None
    """A config file that is run with the same seed and shown beside this one (without DP, say); null for none."""

    def __post_init__(self) -> None:
        plain = self.name.replace("-", "").replace("_", "").replace(".", "").isalnum() and self.name[0] != "."
        short = 0 < len(self.name) <= limits.LONGEST_NAME
        _require(
            short and plain, "run.name", f"at most {limits.LONGEST_NAME} letters, digits, '-', '_' and '.'", self.name
        )
        _require(self.rounds >= 1, "run.rounds", "at least 1", self.rounds)
        _require(0 <= self.seed < limits.LARGEST_SEED, "run.seed", "0 to below 2**63", self.seed)


@dataclass(frozen=True)
class DataSection:
    """Which data set, by its name or as "package.module:callable"."""

    name: str | None = None
    factory: str | None = None
    args: Args = field(default_factory=dict)
    partition: PartitionSpec = field(default_factory=PartitionSpec)

    def __post_init__(self) -> None:
        _require_one("data", self.name, self.factory)


@dataclass(frozen=True)
class TaskSection:
    """What is learned, by its name or as "package.module:callable"."""

    name: str | None = None
    factory: str | None = None

    def __post_init__(self) -> None:
        _require(self.name is None or self.factory is None, "task", "one of task.name and task.factory", "both")


@dataclass(frozen=True)
class ModelSection:
    """Which model, by its name or as "package.module:callable"."""

    name: str | None = None
    factory: str | None = None
    args: Args = field(default_factory=dict)

    def __post_init__(self) -> None:
        _require_one("model", self.name, self.factory)


@dataclass(frozen=True)
class OptimizerSection:
    """SGD of the client's local training."""

    learning_rate: float = 0.1
    momentum: float = 0.0
    weight_decay: float = 0.0
    schedule: Literal["constant", "cosine", "linear"] = "constant"
    """Over the rounds of the run: cosine falls to 0 along half a wave, linear to 0 in a line."""

    def __post_init__(self) -> None:
        most, rate = limits.LARGEST_LEARNING_RATE, self.learning_rate
        _require(0 < rate <= most, "clients.optimizer.learning_rate", f"above 0, at most {most:g}", rate)
        _require(0 <= self.momentum < 1, "clients.optimizer.momentum", "0 to below 1", self.momentum)
        _require(self.weight_decay >= 0, "clients.optimizer.weight_decay", "at least 0", self.weight_decay)


@dataclass(frozen=True)
class SelectionSection:
    """How a round's clients are chosen, by its name or as "package.module:Class"."""

    name: str | None = "uniform"
    factory: str | None = None
    args: Args = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.factory is not None and self.name == "uniform":
            object.__setattr__(self, "name", None)
        _require_one("clients.selection", self.name, self.factory)


@dataclass(frozen=True)
class ClientsSection:
    """The cohort of a round and its local training."""

    per_round: int | None = None
    """Clients of one round, or of an asynchronous run the most that train at a time; null takes all."""
    local_epochs: int = 1
    batch_size: int = 32
    """Without DP the batch size; under DP the expected one, of which the size class makes a sample rate."""
    sample_rate: float | None = None
    """Under DP: probability of an example to be in a batch; overrides ``batch_size``."""
    local_steps: int | None = None
    """Steps of a round; overrides ``local_epochs``."""
    optimizer: OptimizerSection = field(default_factory=OptimizerSection)
    selection: SelectionSection = field(default_factory=SelectionSection)
    over_select: float = 1.0
    """So many times ``per_round`` clients are asked; the round is over when ``per_round`` were accepted."""

    def __post_init__(self) -> None:
        _require(self.per_round is None or self.per_round >= 1, "clients.per_round", "at least 1", self.per_round)
        _require(self.over_select >= 1, "clients.over_select", "at least 1", self.over_select)
        if self.per_round is None:
            _require(
                self.over_select == 1, "clients.over_select", "1 where clients.per_round is null", self.over_select
            )
        _require(self.local_epochs >= 1, "clients.local_epochs", "at least 1", self.local_epochs)
        _require(self.batch_size >= 1, "clients.batch_size", "at least 1", self.batch_size)
        rate, steps, least = self.sample_rate, self.local_steps, limits.LEAST_SAMPLE_RATE
        _require(rate is None or least <= rate <= 1, "clients.sample_rate", f"{least:g} to 1", rate)
        _require(steps is None or steps >= 1, "clients.local_steps", "at least 1", steps)


@dataclass(frozen=True)
class PrivacySection:
    """Per-example DP-SGD (arXiv 1607.00133) on every client, for the whole run."""

    epsilon: float
    delta: float = 1e-5
    clip_norm: float = 1.0
    unit: Literal["example"] = "example"
    accountant: Literal["rdp", "pld"] = "rdp"
    ranges_share: float = 0.05
    """Share of epsilon that ``quant.ranges: dp_histogram`` may spend before the first round."""

    def __post_init__(self) -> None:
        _require(self.epsilon > 0, "privacy.epsilon", "above 0", self.epsilon)
        _require(0 < self.delta < 1, "privacy.delta", "between 0 and 1", self.delta)
        clips = 0 < self.clip_norm <= limits.LARGEST_CLIP_NORM
        _require(clips, "privacy.clip_norm", f"above 0, at most {limits.LARGEST_CLIP_NORM:g}", self.clip_norm)
        _require(0 < self.ranges_share < 1, "privacy.ranges_share", "between 0 and 1", self.ranges_share)


@dataclass(frozen=True)
class StrategySection:
    """Which strategy, by its name or as "package.module:Class"."""

    name: str | None = "fedavg"
    factory: str | None = None
    args: Args = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.factory is not None and self.name == "fedavg":
            object.__setattr__(self, "name", None)
        _require_one("strategy", self.name, self.factory)


def _form_of_format(stated: object) -> str:
    return "FormatSection" if isinstance(stated, (Mapping, FormatSection)) else "str"


Format = Annotated[
    Annotated[str, Tag("str")] | Annotated[FormatSection, Tag("FormatSection")], Discriminator(_form_of_format)
]
"""A format by its name, or as ``{name, args}``; what was a name is written out as one."""


@dataclass(frozen=True)
class ExportSection:
    """Which artefacts are made, and how often."""

    formats: tuple[Format, ...] = ("onnx",)
    every: int = 1
    """Export after every so many rounds; the last round always exports."""
    clients_export: bool = False
    """Clients export an artefact of their own, fine-tuned model on their side, which never leaves them."""

    def __post_init__(self) -> None:
        _require(self.every >= 1, "export.every", "at least 1", self.every)
        names = [format_name(format) for format in self.formats]
        _require(len(set(names)) == len(names), "export.formats", "no format twice", self.formats)


@dataclass(frozen=True)
class RoundSection:
    """When a round is over, and which updates it takes."""

    deadline_s: float = 600.0
    quorum: float = 0.5
    """Share of the cohort whose accepted updates make a round; with fewer the global model stays as it was."""
    min_clients: int = 1
    """So many clients must be there before a synchronous round, or an asynchronous run, starts; the wait is at most
    ``deadline_s``."""
    max_update_norm: float = 1e3
    """An update whose Euclidean norm is larger is rejected."""
    max_weight: int = 1_000_000
    """An update that claims more examples is rejected."""

    def __post_init__(self) -> None:
        longest = 0 < self.deadline_s <= limits.LONGEST_DEADLINE_S
        _require(longest, "round.deadline_s", f"above 0, at most {limits.LONGEST_DEADLINE_S:g}", self.deadline_s)
        _require(0 < self.quorum <= 1, "round.quorum", "above 0, at most 1", self.quorum)
        _require(self.min_clients >= 1, "round.min_clients", "at least 1", self.min_clients)
        _require(self.max_update_norm > 0, "round.max_update_norm", "above 0", self.max_update_norm)
        _require(self.max_weight >= 1, "round.max_weight", "at least 1", self.max_weight)


@dataclass(frozen=True)
class AttackSection:
    """Clients of a simulation that lie, and how."""

    name: str
    clients: int = 1
    """How many: the first in the order of their client_ids."""
    args: Args = field(default_factory=dict)

    def __post_init__(self) -> None:
        _require(self.clients >= 1, "simulation.attack.clients", "at least 1", self.clients)


@dataclass(frozen=True)
class SimulationSection:
    """The virtual clock and the attackers of a simulated fleet; boards have a real clock and read nothing here."""

    seconds_per_round: float = 0.0
    """Virtual seconds that a client takes for one task, from being asked to its answer."""
    clients: Mapping[str, float] = field(default_factory=dict)
    """Virtual seconds of one task for single clients, by client_id."""
    attack: AttackSection | None = None

    def __post_init__(self) -> None:
        _require(self.seconds_per_round >= 0, "simulation.seconds_per_round", "at least 0", self.seconds_per_round)
        for name, seconds in self.clients.items():
            _require(seconds >= 0, f"simulation.clients.{name}", "at least 0 seconds", seconds)


@dataclass(frozen=True)
class Config:
    """A whole run."""

    run: RunSection
    data: DataSection
    model: ModelSection
    task: TaskSection = field(default_factory=lambda: TaskSection(name="classification"))
    clients: ClientsSection = field(default_factory=ClientsSection)
    quant: QuantSpec = field(default_factory=QuantSpec)
    privacy: PrivacySection | None = None
    strategy: StrategySection = field(default_factory=StrategySection)
    export: ExportSection = field(default_factory=ExportSection)
    round: RoundSection = field(default_factory=RoundSection)
    simulation: SimulationSection = field(default_factory=SimulationSection)

    def __post_init__(self) -> None:
        if self.privacy is not None and self.quant.ranges == "ema":
            raise ValueError(
                "quant.ranges: ema lets raw activation ranges leave a device; under privacy expected "
                "fixed, public, learned or dp_histogram, got 'ema'"
            )
        if self.privacy is None and self.quant.ranges == "dp_histogram":
            raise ValueError("quant.ranges: dp_histogram spends a privacy budget; expected a privacy section, got null")
        if self.clients.sample_rate is not None and self.privacy is None:
            raise ValueError(
                "clients.sample_rate: is Poisson sampling under privacy; expected null without, "
                f"got {self.clients.sample_rate}"
            )
