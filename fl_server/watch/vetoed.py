"""Finds artefacts that are older than the model: those of the rounds since were vetoed."""

from __future__ import annotations

from collections.abc import Iterator

from fl_core.findings import Finding
from fl_server.watch.records import Mishap, artifact_name
from fl_server.watch.state import RunState


def older_artifacts(state: RunState) -> Iterator[Finding]:
    """One finding for each format and width whose newest artefact was vetoed."""
    good = {artifact_name(each.format, each.weight_bits): each.round for each in state.artifacts}
    vetoed: dict[str, list[Mishap]] = {}
    for each in state.mishaps:
        if each.kind == "artifact_vetoed" and each.round > good.get(each.who, 0):
            vetoed.setdefault(each.who, []).append(each)
    for who, since in vetoed.items():
        have = f"the newest good one is of round {good[who]}" if who in good else "there is no good one"
        yield Finding(
            "artefact vetoed",
            f"{who}: {have}; {len(since)} since then did not pass, the last that of round {since[-1].round}: "
            f"{since[-1].reason}",
        )
