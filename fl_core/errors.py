"""The one error tree of Stonecrop.

Every error that a user can cause or has to act on is one of these. The message names the field or the client,
what was expected and what came. An error holds one problem or several, and a problem is one line however many lines a
library's text in it had. The commands turn each branch into an exit code of its own, and say what it means in the words
of ``EXIT_CODES``. Where the same try meets the same error again, its class is ``final``, and whoever keeps processes
and runs up lets it end them.

    StonecropError                  exit code 1
    ├── ConfigError                 2   a config does not say what it must
    ├── DataError                   3   a data set or a user's factory breaks its contract
    ├── ModelError                  4   a model cannot be built or used
    │   └── UnsupportedLayerError   4   a layer cannot become integer
    ├── PrivacyError                5   the guarantee would not hold
    │   ├── PolicyError             5   a plan asks for less protection than the device allows
    │   ├── BudgetSpentError        5   the privacy budget of a data set is used up
    │   └── LedgerError             5   the ledger is damaged or contradicts itself
    ├── WireError                   6   a message cannot be read
    ├── UpdateRejectedError         6   an update is not fit to be summed
    ├── RoundError                  6   a round cannot go on (quorum, no clients)
    │   └── NoUpdateError           6   a run of which nothing came: no update was ever accepted
    ├── ExportError                 7   an artefact cannot be made or loaded
    │   └── ParityError             7   an artefact does not compute what was trained
    ├── RunFolderError              8   a run folder is missing, damaged, at work or belongs to another run
    │   └── StorageError            8   the operating system refuses to read or write a file: a full disk, rights
    ├── TrainerError                9   the trainer of a board is not there, died or failed in a task
    └── IdentityError              10   a device cannot be enrolled, named or let in
        └── ServerAwayError        11   the server cannot be reached now; trying again may help
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import ClassVar

INTERRUPTED = 130
EXIT_CODES: Mapping[int, str] = {
    0: "all went well",
    1: "another error of Stonecrop, or a defect (with a traceback)",
    2: "the config or the command line is wrong",
    3: "the data breaks its contract",
    4: "the model cannot be built, or has a layer that cannot become integer",
    5: "a privacy guarantee would not hold, or its budget is spent",
    6: "a round cannot go on, or a message cannot be read",
    7: "an artefact cannot be made or loaded, or does not compute what was trained",
    8: "a run folder is missing, damaged, at work or of another run, or the disk is full or refuses",
    9: "the trainer of a board is not there, died, or failed in a task",
    10: "a device cannot be enrolled, named or let in",
    11: "the server cannot be reached now; trying again may help",
    INTERRUPTED: "interrupted; a run can be resumed",
}
"""How a command ends, in words for its user."""


_BREAK = re.compile(r" *(?:[^\S ]|[\x00-\x1f\x7f-\x9f])[\s\x00-\x1f\x7f-\x9f]*")
"""What no line has inside: line breaks, tabs and control characters, with the spaces around them."""


def one_line(text: str) -> str:
    """A text of any origin as one line without control characters; spaces inside a line stay as they are."""
    return _BREAK.sub(" ", text).strip()


class StonecropError(Exception):
    """Base of all errors that Stonecrop raises on purpose.

    ``problems`` lists everything that is wrong, one line each, whatever lines the texts had; as a text the error is one
    line with all of them.
    """

    exit_code = 1
    final: ClassVar[bool] = False
    """Whether the same try meets it again, until a person has changed something."""

    def __init__(self, problems: str | Sequence[str] = ()) -> None:
        self.problems = tuple(map(one_line, (problems,) if isinstance(problems, str) else problems))
        super().__init__(self.problems)

    def __str__(self) -> str:
        return "; ".join(self.problems)


class ConfigError(StonecropError):
    """A config is wrong; each problem names its field."""

    exit_code = 2
    final = True


class DataError(StonecropError):
    """A data set, or what a user's data factory returned, breaks its contract."""

    exit_code = 3
    final = True


class ModelError(StonecropError):
    """A model cannot be built, or does not fit the data or the tensors it was given."""

    exit_code = 4
    final = True


class UnsupportedLayerError(ModelError):
    """A layer cannot become integer; the message names the layer and what to use instead."""


class PrivacyError(StonecropError):
    """Going on would break a privacy guarantee."""

    exit_code = 5
    final = True


class PolicyError(PrivacyError):
    """A plan asks for less protection than the policy of the device allows."""


class BudgetSpentError(PrivacyError):
    """The privacy budget of a data set does not cover what a plan asks for."""


class LedgerError(PrivacyError):
    """The privacy ledger is damaged, or an entry contradicts the ones before it."""


class WireError(StonecropError):
    """A message between server and client cannot be read."""

    exit_code = 6


class UpdateRejectedError(StonecropError):
    """An update is not fit to be summed; the message names the client and the reason."""

    exit_code = 6


class RoundError(StonecropError):
    """A round cannot be finished: too few clients answered in time."""

    exit_code = 6


class NoUpdateError(RoundError):
    """No update of any client was ever accepted: nothing was trained. The problems are the clients' reasons."""

    final = True


class ExportError(StonecropError):
    """An artefact cannot be made, loaded or run."""

    exit_code = 7
    final = True


class ParityError(ExportError):
    """An artefact, run in its runtime, does not compute what the fake-quant forward computes."""


class RunFolderError(StonecropError):
    """A run folder is missing, damaged, belongs to another config, or another process is at work in it."""

    exit_code = 8
    final = True


class StorageError(RunFolderError):
    """The operating system refuses to read or write a file; the message names the path and how to go on."""

    final = False


class TrainerError(StonecropError):
    """The resident trainer of a board cannot be reached, died before it answered, or failed in a task."""

    exit_code = 9


class IdentityError(StonecropError):
    """A token, a certificate or a device is unknown, used up, expired, revoked or malformed."""

    exit_code = 10
    final = True


class ServerAwayError(IdentityError):
    """The server cannot be reached or is not ready; nothing is wrong with the identity."""

    exit_code = 11
    final = False


def _kinds(kind: type[StonecropError]) -> Iterator[type[StonecropError]]:
    yield kind
    for below in kind.__subclasses__():
        yield from _kinds(below)


FINAL_CODES = frozenset(kind.exit_code for kind in _kinds(StonecropError) if kind.final) - frozenset(
    kind.exit_code for kind in _kinds(StonecropError) if not kind.final
)
"""Exit codes that stand for final errors alone: a process that ends with one would end so at its next start, too."""
