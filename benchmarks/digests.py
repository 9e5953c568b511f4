"""Shows that a change moved nothing for a user: runs every shipped config and every strategy, and prints digests.

    python benchmarks/digests.py --out before.txt                    at the commit before
    python benchmarks/digests.py --out after.txt --against before.txt    at the commit after it

Each config is shortened to few rounds; each strategy trains a small net on seven clients that are asked at once, one of
them slow, and publishes in its last round. A line is ``case  fact  value``. Three cases are run again on two workers,
and again with a SIGKILL in mid-run and a resumption; both must give the same. Only the command line and the run folder
are used, so the same file runs on commits whose insides differ. Digests hold for one machine and the same packages.
"""

from __future__ import annotations

import argparse
import os
import platform
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import yaml
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from shared.fingerprint import ARTIFACT_KINDS, Facts, events_of, facts_of, unlike

ROOT = Path(__file__).resolve().parents[1]
ENVIRONMENT = {
    **os.environ, "OMP_NUM_THREADS": "1",
    "PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")])),
}  # fmt: skip
"""Of the runs: this checkout's modules, wherever else the project is installed."""

SHORT = 3
ROUNDS = {"mnist_async": 10}
"""Rounds of shipped configs that need more than ``SHORT``: here the slow client's first update comes late."""
STRATEGY_ROUNDS = 4
ARGS: dict[str, dict[str, Any]] = {
    "central_dp": {"epsilon": 50.0, "expected_clients": 7},
    "centered_clipping": {"radius": 0.02},
    "dp_ftrl": {"epsilon": 50.0, "expected_clients": 2, "restart_every": 3},
    "fedbuff": {"buffer_size": 3},
    "norm_bound": {"max_norm": 0.1},
    "trimmed_mean": {"byzantine": 1},
}
"""Arguments that have no default, or with whose defaults a strategy would do here what another one does."""
REPEATED = ("quickstart", "strategy/fedbuff", "strategy/scaffold")
"""Private with a companion, asynchronous, and with state on server and clients."""
COMPANION_KEYS = ("beside", "companion")
"""Names that ``run`` has had for the config that is run with it."""
PACKAGES = ("torch", "numpy", "opacus", "onnx", "onnxruntime", "flwr")
FAILED = "failed"
EQUAL = "equal"
_LOOK_S = 0.005
_KILL_TRIES = 3


@dataclass(frozen=True)
class Case:
    """One config to run."""

    name: str
    config: Path
    rounds: int
    overrides: tuple[str, ...] = ()


class RunError(Exception):
    """A run ended with an error."""


def cases_in(folder: Path) -> list[Case]:
    """Shipped configs and strategies; the configs that they need and are not shipped are written to ``folder``."""
    shipped = [_shipped(path, folder) for path in sorted((ROOT / "configs").glob("*.yaml"))]
    code = "from strategies.registry import known_strategies; print(*sorted(known_strategies()))"
    names = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=ENVIRONMENT, capture_output=True, text=True, check=True
    ).stdout.split()
    return [*shipped, *(_strategy(name, folder) for name in names)]


def _shipped(path: Path, folder: Path) -> Case:
    run = yaml.safe_load(path.read_text(encoding="utf-8")).get("run") or {}
    overrides = []
    for key in COMPANION_KEYS:
        if run.get(key):
            short = {"extends": str(path.parent / run[key]), "run": {"rounds": SHORT}}
            overrides.append(f"run.{key}={_write(folder / 'companions' / Path(run[key]).name, short)}")
    return Case(path.stem, path, ROUNDS.get(path.stem, SHORT), tuple(overrides))


def _strategy(name: str, folder: Path) -> Case:
    data = "simulation.conformance.data"
    plain = {
        "run": {"name": name, "seed": 7},
        "data": {"factory": f"{data}:blobs"},
        "model": {"factory": f"{data}:net"},
        "clients": {"batch_size": 8, "optimizer": {"learning_rate": 0.1}},
        "export": {"formats": ["onnx"], "every": 1000},
        "strategy": {"name": name, "args": ARGS.get(name, {})},
        "simulation": {"seconds_per_round": 1.0, "clients": {"client-6": 3.0}},
    }
    return Case(f"strategy/{name}", _write(folder / "strategies" / f"{name}.yaml", plain), STRATEGY_ROUNDS)


def _write(path: Path, plain: dict[str, Any]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump(plain), encoding="utf-8")
    return path


def facts_of_case(case: Case, folder: Path, console: Console) -> Facts:
    """Run a case, and again where it is one of ``REPEATED``."""
    started, found = time.monotonic(), Facts()
    try:
        once = facts_of(_run(case, folder / "once"))
        found |= once
        if case.name in REPEATED:
            found["on two workers"] = _verdict(unlike(once, facts_of(_run(case, folder / "workers", "--workers", "2"))))
            moved = unlike(once, facts_of(_run_killed(case, folder / "killed")))
            # Publishing that a kill interrupted may be said again; what it wrote may not differ.
            found["killed and resumed"] = _verdict([name for name in moved if not name.endswith(ARTIFACT_KINDS)])
    except (RunError, OSError, ValueError, LookupError) as error:
        console.print(f"{case.name}: {error}", markup=False, highlight=False, soft_wrap=True)
        found[FAILED] = str(error).splitlines()[0] if isinstance(error, RunError) else type(error).__name__
    console.print(f"{case.name}: {time.monotonic() - started:.0f} s", markup=False, highlight=False)
    return found


def _verdict(names: Sequence[str]) -> str:
    return f"unequal: {', '.join(names)}" if names else EQUAL


def _command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "simulation.cli", *arguments]


def _arguments(case: Case, out: Path, *options: str) -> list[str]:
    return _command("run", str(case.config), f"run.rounds={case.rounds}", *case.overrides, "--out", str(out), *options)


def _run(case: Case, out: Path, *options: str) -> Path:
    """A whole run; gives its folder."""
    _complete(_arguments(case, out, *options))
    return _run_dir(out)


def _complete(command: Sequence[str]) -> None:
    done = subprocess.run(command, cwd=ROOT, env=ENVIRONMENT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    if done.returncode:
        told = done.stderr.decode(errors="replace").strip().splitlines()[-10:]
        raise RunError("\n".join([f"exit code {done.returncode}", *told]))


def _run_killed(case: Case, out: Path) -> Path:
    """A run that was killed in its middle round, after something had happened in it, and resumed."""
    for number in range(_KILL_TRIES):
        attempt = out / str(number)
        with subprocess.Popen(
            _arguments(case, attempt), cwd=ROOT, env=ENVIRONMENT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        ) as child:
            while child.poll() is None and _heard(attempt, case.rounds // 2 + 1) < 2:
                time.sleep(_LOOK_S)
            child.kill()
        run_dir = _run_dir(attempt)
        over = any(event["kind"] == "run_finished" for event in events_of(run_dir))
        if child.returncode == -signal.SIGKILL and not over:
            _complete(_command("resume", str(run_dir)))
            return run_dir
    raise RunError(f"ended before it could be killed, {_KILL_TRIES} times")


def _heard(out: Path, round: int) -> int:
    """How many events of that round a run has told so far."""
    return sum(event["round"] == round for path in out.glob("*/events.jsonl") for event in events_of(path.parent))


def _run_dir(out: Path) -> Path:
    found = [path.parent for path in out.glob("*/events.jsonl")]
    if len(found) != 1:
        raise RunError(f"expected one run folder, found {len(found)}")
    return found[0]


def run_all(cases: Sequence[Case], folder: Path, at_once: int, console: Console) -> Facts:
    """The facts of all cases, each under ``case  fact``, in the order of ``cases``."""
    versions = [f"{name} {metadata.version(name)}" for name in PACKAGES]
    found = {"machine  versions": ", ".join([f"{platform.machine()}, python {platform.python_version()}", *versions])}
    columns = (TextColumn("{task.description}"), BarColumn(24), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console) as progress, ThreadPoolExecutor(at_once) as pool:
        bar = progress.add_task("cases", total=len(cases))

        def run_one(case: Case) -> Facts:
            facts = facts_of_case(case, folder / "runs" / case.name, progress.console)
            progress.advance(bar)
            return facts

        for case, facts in zip(cases, pool.map(run_one, cases), strict=True):
            found |= {f"{case.name}  {name}": text for name, text in facts.items()}
    return found


def _read(path: Path, names: Sequence[str]) -> Facts:
    """The lines of an earlier output that are about these cases, or about the machine."""
    rows = [line.split("  ", 2) for line in path.read_text(encoding="utf-8").splitlines()]
    return {f"{case}  {fact}": text for case, fact, text in rows if case in ("machine", *names)}


def _broken(found: Facts) -> bool:
    """Whether a run failed, or gave something else on two workers or after a kill."""
    return any(name.endswith(f"  {FAILED}") or text.startswith("unequal") for name, text in found.items())


def main() -> int:
    """The command; exits with 1 when a run failed or anything differs that must not."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="write the lines to this file too")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="run these cases")
    parser.add_argument("--list", action="store_true", help="print the names of all cases and run none")
    parser.add_argument("--against", type=Path, metavar="FILE", help="name the lines that differ from that output")
    parser.add_argument("--at-once", type=int, default=1, help="cases that run at a time")
    options = parser.parse_args()
    console = Console(stderr=True)
    with tempfile.TemporaryDirectory() as folder:
        cases = cases_in(Path(folder))
        if options.list:
            print(*(case.name for case in cases), sep="\n")
            return 0
        if unknown := set(options.only or ()) - {case.name for case in cases}:
            parser.error(f"--only: unknown {', '.join(sorted(unknown))}; --list prints all names")
        chosen = [case for case in cases if not options.only or case.name in options.only]
        names = options.only or [case.name for case in cases]
        earlier = _read(options.against, names) if options.against else None
        found = run_all(chosen, Path(folder), options.at_once, console)
    lines = [f"{name}  {text}" for name, text in found.items()]
    print(*lines, sep="\n")
    if options.out:
        options.out.write_text("\n".join(lines) + "\n", encoding="utf-8")
    moved = [] if earlier is None else unlike(earlier, found)
    for name in moved:
        was, now = (earlier or {}).get(name, "nothing"), found.get(name, "nothing")
        console.print(f"{name}\n  was {was}\n  is  {now}", markup=False, highlight=False, soft_wrap=True)
    return 1 if moved or _broken(found) else 0


if __name__ == "__main__":
    sys.exit(main())
