"""Changes good setups at random, as people get them wrong, and looks that none ends in a traceback, a hang or a lie.

    python benchmarks/mutations.py --count 200

Each mutation changes one of five good setups (``benchmarks/setups``): a value of the config, the arrays of its
Federation, or the code of its model or task. ``fl-sim run`` then runs it as its user would, in a process and a folder
of its own. It ends well where it is refused in lines with a documented exit code; or where it learned from updates that
were accepted; or where it ran to its end without getting better and says so in a finding. One that asks for more
rounds than there is time for is stopped with Ctrl-C and judged by the rounds that it did. Anything else is a fault: the
command lists it and exits with 1. The same seed gives the same mutations; results are written as they come, to
``results.jsonl``.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import yaml
from inject import mutate_arrays
from inject.mutate_code import mutate_source
from inject.mutate_config import mutate
from rich.progress import track
from shared.printing import Figures, show

from fl_core.errors import EXIT_CODES, INTERRUPTED
from fl_core.runlog import read_events
from fl_server.watch.findings import findings
from fl_server.watch.state import RunState, state_of

SETUPS = Path(__file__).parent / "setups"
ROOT = Path(__file__).parents[1]
LONGEST_S = 300.0
"""A run of a setup takes some seconds; one that takes longer than this is stopped."""
STILL_S = 60.0
"""One that has written no event for so long when it is stopped, or takes so long to stop, hangs."""
MUTATED_FACTORY = '''"""The factory of my_data, mutated."""

import my_data
from inject.mutate_arrays import mutated


def make(**args):
    return mutated(my_data.{name}(**args), {seed})
'''
RUN = "from simulation.cli import main; main()"


@dataclass(frozen=True)
class Ending:
    """How one mutation ended."""

    number: int
    setup: str
    change: str
    verdict: str
    """refused, learned, told; or a fault: traceback, hang, undocumented, nothing came, not told."""
    said: str
    """The first line of an error or a finding, or the score before and after."""


GOOD = ("refused", "learned", "told")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", type=int, nargs="+", metavar="NUMBER", help="these mutations alone")
    parser.add_argument("--workers", type=int, default=2, help="runs at a time")
    parser.add_argument("--out", type=Path, default=Path("runs/benchmark-mutations"))
    parser.add_argument("--markdown", action="store_true", help="print tables that can be pasted into a text")
    args = parser.parse_args()
    make_room(args.out)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job ignores it, and so would runs
    setups = sorted(path.name for path in SETUPS.iterdir())
    for setup in setups:
        ending = end_of(args.out, args.seed, 0, setup)
        if ending.verdict != "learned":
            raise SystemExit(f"setup {setup}: expected to learn as it is, got {ending.verdict}: {ending.said}")
    numbers = args.only or range(1, args.count + 1)
    with ThreadPoolExecutor(args.workers) as pool, (args.out / "results.jsonl").open("w") as results:
        ends = pool.map(lambda n: end_of(args.out, args.seed, n, setups[n % len(setups)]), numbers)
        endings = []
        for ending in track(ends, "mutations", total=len(numbers), disable=not sys.stderr.isatty()):
            endings.append(ending)
            results.write(json.dumps(asdict(ending)) + "\n")
            results.flush()
    show(tables_of(endings), args.markdown)
    raise SystemExit(any(ending.verdict not in GOOD for ending in endings))


def make_room(out: Path) -> None:
    """An empty folder; only results of this command are deleted."""
    if out.exists() and any(out.iterdir()) and not (out / "results.jsonl").is_file():
        raise SystemExit(f"{out}: expected results of this command or nothing, got something else; it is left alone")
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    (out / "results.jsonl").touch()


def tables_of(endings: Sequence[Ending]) -> list[Figures]:
    """How many ended how; every fault; and every mutation that ran and learned, or said that it did not."""
    counts = Counter(ending.verdict for ending in endings)
    columns = ("number", "setup", "change", "verdict", "said")
    rows = [(str(e.number), e.setup, e.change, e.verdict, e.said) for e in endings]
    return [
        Figures("mutations by ending", ("ending", "mutations"), tuple((k, str(v)) for k, v in counts.most_common())),
        Figures("faults", columns, tuple(row for row in rows if row[3] not in GOOD)),
        Figures("ran", columns, tuple(row for row in rows if row[3] in ("learned", "told"))),
    ]


def end_of(out: Path, seed: int, number: int, setup: str) -> Ending:
    """Make one mutation, number 0 for the setup as it is, run it, and say how it ended."""
    folder = out / f"{number:04d}-{setup}"
    shutil.copytree(SETUPS / setup, folder, ignore=shutil.ignore_patterns("__pycache__"))
    change = mutate_setup(folder, random.Random(seed * 1_000_000 + number)) if number else "as it is"
    ended = partial(Ending, number, setup, change)
    paths = os.pathsep.join((str(ROOT), str(ROOT / "benchmarks")))
    environment = {**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1", "COLUMNS": "200"}
    command = [sys.executable, "-c", RUN, "run", "run.yaml", "--out", "runs"]
    with (folder / "stderr.txt").open("w") as stderr:
        code, stopped = finish(
            subprocess.Popen(command, cwd=folder, env=environment, stdout=subprocess.DEVNULL, stderr=stderr)
        )
    said = (folder / "stderr.txt").read_text()
    run_dir = next((path.parent for path in folder.glob("runs/*/events.jsonl")), None)
    if "Traceback" in said:
        return ended("traceback", said.strip().splitlines()[-1])
    if stopped and (code != INTERRUPTED or run_dir is None or stopped - last_written(run_dir) > STILL_S):
        return ended("hang", f"stopped after {LONGEST_S:.0f} s, exit code {code}")
    if code and not stopped:
        errors = [line for line in said.splitlines() if line.startswith("error: ")]
        known = code in EXIT_CODES.keys() - {INTERRUPTED}
        return ended("refused" if known and errors else "undocumented", f"{code} {' | '.join(errors)}")
    assert run_dir is not None
    verdict, words = judged(state_of(read_events(run_dir)))
    return ended(verdict, words + (f"; stopped after {LONGEST_S:.0f} s" if stopped else ""))


def finish(process: subprocess.Popen[bytes]) -> tuple[int | None, float]:
    """Wait for a run; one that takes too long is stopped as its user would do it.

    Gives its exit code, None where it had to be killed, and when it was stopped, 0 where it ended by itself.
    """
    try:
        return process.wait(LONGEST_S), 0.0
    except subprocess.TimeoutExpired:
        stopped = time.time()
        process.send_signal(signal.SIGINT)
    try:
        return process.wait(STILL_S), stopped
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        return None, stopped


def last_written(run_dir: Path) -> float:
    """When the last event before Ctrl-C was written."""
    return max((event["time"] for event in read_events(run_dir)), default=0.0)


def mutate_setup(folder: Path, rng: random.Random) -> str:
    """Change one thing in a copy of a setup; gives the change in words."""
    config = folder / "run.yaml"
    plain = yaml.safe_load(config.read_text())
    code = [name for name in ("my_model.py", "my_task.py") if (folder / name).is_file()]
    kind = rng.choice(("config", "arrays", "code"))
    if kind == "config":
        changed, words = mutate(plain, rng)
    elif kind == "arrays":
        seed = rng.randrange(1 << 30)
        factory = plain["data"]["factory"].partition(":")[2]
        (folder / "mutated_data.py").write_text(MUTATED_FACTORY.format(name=factory, seed=seed))
        changed, words = (
            plain | {"data": plain["data"] | {"factory": "mutated_data:make"}},
            mutate_arrays.describe(seed),
        )
    else:
        file = folder / rng.choice(code)
        source, words = mutate_source(file.name, file.read_text(), rng)
        file.write_text(source)
        changed = plain
    config.write_text(yaml.safe_dump(changed, sort_keys=False))
    return words


def judged(state: RunState) -> tuple[str, str]:
    """Whether a run that ended well learned, or says that it did not: verdict and words."""
    if not state.updates:
        return "nothing came", f"exit 0, and no update was accepted in {len(state.finished_rounds())} rounds"
    scores = [float(evaluation["accuracy_fake_quant"]) for _, evaluation in state.evaluations()]
    first, last = (scores[0], scores[-1]) if scores else (0.0, 0.0)
    found = findings(state)
    stuck = any(finding.topic == "not learning" for finding in found)
    if scores and not stuck and (last > first or last == 1.0 or first == last == 0.0):
        return "learned", f"{state.updates} updates, {first:.4g} to {last:.4g}"
    if found:
        return "told", str(found[0])
    return "not told", f"exit 0, {state.updates} updates, scores {scores}, and no finding"


if __name__ == "__main__":
    main()
