"""A run folder as short facts: digests of its model, state and artefacts, the kinds of its events, and its figures.

Everything is read from the files that a run folder promises and nothing through the project's own modules, so two
commits whose insides differ can be held against each other. A fact of one commit must have the same text in the other
exactly when a user would see the same. Digests are SHA-256 over contents, never over a checkpoint's file: how a
checkpoint lays out its tensors and what else it notes may change.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import groupby
from pathlib import Path
from typing import Any

Facts = dict[str, str]
"""Text by name, in the order in which they are printed."""

PUBLISHING = ("artifact_published", "artifact_vetoed", "client_evaluated")
"""Kinds of events that come with artefacts. When they come among the others is not promised; how often is."""
PASSED_OVER = ("run_resumed", "round_published")
"""Kinds that only a resumed run has, or only a newer version."""
ARTIFACT_KINDS = "artefact kinds"
FIGURES = (
    "rounds_done", "initial_accuracy", "accuracy_float", "accuracy_fake_quant", "accuracy_int8",
    "clients_accuracy_mean", "personal_accuracy_mean",
)  # fmt: skip
"""Figures of summary.json; the largest epsilons come with them."""
TRAFFIC = ("bytes_up", "bytes_down")
"""Figures of summary.json that may fall from one version to the next."""
CLIENT_FIGURES = (
    "epsilon", "local_steps", "train_loss", "personal_score", "accuracy_float", "accuracy_int8",
)  # fmt: skip
"""Figures of events about one client. What stays on a device, such as a personal model, is seen in these alone."""
_CHECKPOINT_DIGEST_BYTES = 32
_LONGEST_PATTERN = 3


def facts_of(run_dir: Path) -> Facts:
    """The facts of a run and, under the label ``companion``, of the runs inside it.

    Raises:
        OSError: it is no finished run folder.
        ValueError, LookupError: a file of it is not what it should be.
    """
    events = events_of(run_dir)
    found = {**_checkpoint(run_dir), **_artifacts(run_dir), **_kinds(events)}
    summary = json.loads((run_dir / "summary.json").read_text(encoding="utf-8"))
    found["figures"] = _figures(summary)
    found["traffic"] = " ".join(f"{name}={summary.get(name)}" for name in TRAFFIC)
    found["client figures"] = _client_figures(events)
    inside = [path.parent for name in ("beside", "companion") for path in run_dir.glob(f"{name}/*/events.jsonl")]
    for folder in sorted(inside):
        found |= {f"companion {folder.name} {name}": text for name, text in facts_of(folder).items()}
    return found


def events_of(run_dir: Path) -> list[dict[str, Any]]:
    """All whole events of a run, which may still be running."""
    path = run_dir / "events.jsonl"
    return [json.loads(line) for line in path.read_bytes().splitlines(keepends=True) if line.endswith(b"\n")]


def unlike(left: Mapping[str, str], right: Mapping[str, str]) -> list[str]:
    """Names of what is not the same in both, in order."""
    return [name for name in dict.fromkeys([*left, *right]) if left.get(name) != right.get(name)]


def run_lengths(kinds: Sequence[str]) -> str:
    """A sequence in which what is repeated stands once: ``a (b c)*8 d``."""
    parts, place = [], 0
    while place < len(kinds):
        size, times = max(_repeats(kinds, place), key=lambda found: (found[0] * (found[1] - 1), -found[0]))
        pattern = " ".join(kinds[place : place + size])
        parts.append(pattern if times == 1 else f"({pattern})*{times}" if size > 1 else f"{pattern}*{times}")
        place += size * times
    return " ".join(parts)


def _repeats(kinds: Sequence[str], place: int) -> Iterator[tuple[int, int]]:
    """How often in a row the pattern that begins here stands, for patterns of every length; a single one first."""
    for size in range(1, _LONGEST_PATTERN + 1):
        pattern, times = kinds[place : place + size], 1
        while kinds[place + size * times : place + size * (times + 1)] == pattern:
            times += 1
        yield size, times if len(pattern) == size else 1


def _checkpoint(run_dir: Path) -> Facts:
    header, data = _read_safetensors(run_dir / "checkpoint" / "latest.safetensors")
    fields: dict[str, Any] = {}
    for text in header.pop("__metadata__", {}).values():
        with suppress(ValueError):
            plain = json.loads(text)
            fields |= plain if isinstance(plain, dict) else {}
    model = {name for name in header if name.startswith("model/")}
    if not model:
        raise ValueError(f"{run_dir}: expected a checkpoint with tensors of a model, got {sorted(header)}")
    rest = header.keys() - model
    slots = sorted({name.partition("/")[0].removeprefix("slot.") for name in rest}) or ["none"]
    state = f"version {fields.get('version')}, slots {' '.join(slots)}, {_tensors(header, data, rest)}"
    return {"model": _tensors(header, data, model), "state": state}


def _read_safetensors(path: Path) -> tuple[dict[str, Any], bytes]:
    """Header and data, with or without a digest in front of the file."""
    content = path.read_bytes()
    for start in (_CHECKPOINT_DIGEST_BYTES, 0):
        begin = start + 8
        end = begin + int.from_bytes(content[start:begin], "little")
        if content[begin : begin + 1] == b"{" and end <= len(content):
            return json.loads(content[begin:end]), content[end:]
    raise ValueError(f"{path}: expected safetensors, got something else")


def _tensors(header: Mapping[str, Any], data: bytes, names: set[str]) -> str:
    """Digest of names, dtypes, shapes and bytes."""
    digest = hashlib.sha256()
    for name in sorted(names):
        first, last = header[name]["data_offsets"]
        digest.update(json.dumps([name, header[name]["dtype"], header[name]["shape"]]).encode())
        digest.update(data[first:last])
    return digest.hexdigest()


def _artifacts(run_dir: Path) -> Facts:
    """Every file of the last round that published any; their bytes hold nothing that changes from run to run."""
    rounds = sorted(path for path in (run_dir / "rounds").glob("*") if path.is_dir())
    files = sorted(path for path in rounds[-1].rglob("*") if path.is_file()) if rounds else []
    return {f"artefact {_name(path, run_dir)}": _record(path) or _bytes(path) for path in files}


def _bytes(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _record(path: Path) -> str | None:
    """Digest of what an artefact's record says, whichever version it is of; None for another file."""
    if path.name != "artifact.json":
        return None
    plain = json.loads(path.read_text(encoding="utf-8"))
    sha256 = plain.pop("sha256", None) or plain["files"][plain["path"]]["sha256"]
    for name in ("version", "files", "proof"):
        plain.pop(name, None)
    return _digest({**plain, "sha256": sha256})


def _name(path: Path, run_dir: Path) -> str:
    return path.relative_to(run_dir / "rounds").as_posix()


def _kinds(events: Sequence[Mapping[str, Any]]) -> Facts:
    """A digest of kinds, rounds and clients in their order; the kinds of each round; how often those of artefacts."""
    others = [e for e in events if e["kind"] not in (*PUBLISHING, *PASSED_OVER)]
    by_round: dict[int, list[str]] = {}
    for event in others:
        by_round.setdefault(event["round"], []).append(event["kind"])
    found = {"kinds": _digest([[e["round"], e["kind"], e.get("client_id")] for e in others])}
    for text, same in groupby(sorted(by_round), key=lambda number: run_lengths(by_round[number])):
        rounds = list(same)
        name = f"round {rounds[0]}" if len(rounds) == 1 else f"rounds {rounds[0]} to {rounds[-1]}"
        found[f"kinds of {name}"] = text
    counts = Counter(event["kind"] for event in events if event["kind"] in PUBLISHING)
    found[ARTIFACT_KINDS] = " ".join(f"{kind}*{count}" for kind, count in sorted(counts.items())) or "none"
    return found


def _figures(summary: Mapping[str, Any]) -> str:
    shown = {name: summary.get(name) for name in FIGURES}
    shown["epsilon"] = (summary.get("privacy") or {}).get("epsilon_max")
    shown["user_epsilon"] = (summary.get("user_privacy") or {}).get("epsilon")
    return " ".join(f"{name}={value}" for name, value in shown.items() if value is not None)


def _client_figures(events: Sequence[Mapping[str, Any]]) -> str:
    """Digest of every figure of every client and round, whenever in the round it was said."""
    rows = [
        json.dumps([event["round"], event["client_id"], name, event[name]])
        for event in events
        if event.get("client_id") is not None
        for name in CLIENT_FIGURES
        if event.get(name) is not None
    ]
    return _digest(sorted(rows))


def _digest(value: object) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
