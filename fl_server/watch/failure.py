"""Why a run stopped, in ``failure.json`` beside its events: the same on a server and in a simulation.

It is there from the moment the run fails until it is wanted again. Report and status read it; what is no error of
Stonecrop's is told with its kind.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fl_core.errors import FINAL_CODES, StonecropError
from fl_core.files import read_json, write_json
from fl_core.own_code import described

_REPORT = "report.html"


@dataclass(frozen=True)
class Failure:
    """The failure of one run, whether it has one or not."""

    path: Path

    @classmethod
    def at(cls, run_dir: Path) -> Failure:
        """That of the run in ``run_dir``."""
        return cls(run_dir / "failure.json")

    def write(self, error: Exception) -> None:
        """Keep why the run stopped until it is wanted again."""
        kind = type(error).__name__
        told = error if isinstance(error, StonecropError) else StonecropError(described(error))
        fields = {
            "kind": kind,
            "reason": str(told),
            "problems": list(told.problems),
            "exit_code": told.exit_code,
            "final": told.final,
        }
        write_json(self.path, fields)

    def read(self) -> dict[str, Any] | None:
        """{kind, reason, problems, exit_code, final}; None where nothing happened."""
        found = read_json(self.path, "reason", "exit_code")
        if found is None:
            return None
        # An older version kept neither of these two.
        return {"problems": [found["reason"]], "final": found["exit_code"] in FINAL_CODES, **found}

    @property
    def is_final(self) -> bool:
        """Whether the run would fail again however often it is started."""
        found = self.read()
        return found is not None and bool(found["final"])

    def clear(self) -> None:
        """Forget the failure, for the run is wanted again, and the report that tells it."""
        if self.path.exists():
            self.path.with_name(_REPORT).unlink(missing_ok=True)
            self.path.unlink(missing_ok=True)
