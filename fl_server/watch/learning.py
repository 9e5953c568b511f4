"""Whether a net learns: a plateau from round 1, a saw-tooth until the end, a last round far below the best.

A good run gets no finding, so each bound is beyond what chance in the test set does: two standard errors of a share
that was counted on its examples, and never less than ``LEAST_FALL``. All rounds are measured on the same examples, so
what differs between two of them is mostly the model, and the bound errs to the side of silence. Where clients' own
models are what is trained, the server's has untrained tensors in it, and nothing is said of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import pairwise

from fl_core.findings import Finding
from fl_server.watch.curve import LAST_ROUNDS, LearningCurve, learning_curve, sampling_error
from fl_server.watch.state import RunState
from fl_server.watch.words import as_metric, as_percent

LEAST_FALL = 0.03
"""Smaller differences of an accuracy are not worth a line, however many examples there are."""
STANDARD_ERRORS = 2.0
FEWEST_ROUNDS = 3
"""A run of fewer measured rounds is a try, and says nothing of whether the net learns."""
SOME_ROUNDS = 5
"""From as many on, a net that is better by no more than chance has not learned; before, it may be on its way."""
ENOUGH_ROUNDS = 10
"""After as many, a run that still goes on is told that it does not learn."""
WINDOW = 10
"""Newest rounds in which falls are counted: of a shorter run those of its second half."""
FEWEST_STEPS = 5
FALLING_SHARE = 1 / 3
"""Falls among the steps of the window from which on it is a saw-tooth; of a perfect one every second step is a fall."""
STILL = 1e-6
"""Relative change below which a metric stands still."""

RATE = "a rate that falls (clients.optimizer.schedule: cosine) or a lower one"


def find_how_it_learns(state: RunState) -> Iterable[Finding]:
    """The first that holds: it learns nothing, it swings until the end, it ended far below its best."""
    personal = any(client.personal_score is not None for client in state.clients.values())
    curve = None if personal or not state.updates else learning_curve(state)
    if curve is not None:
        seen = (look(state, curve) for look in _LOOKS)
        yield from [finding for finding in seen if finding is not None][:1]


def plateau(state: RunState, curve: LearningCurve) -> Finding | None:
    """No round was better than the untrained model or than one and the same answer, or nothing moved at all."""
    rounds = len(curve.points)
    if rounds < FEWEST_ROUNDS or not (state.finished or rounds >= ENOUGH_ROUNDS):
        return None
    if state.metric == "accuracy":
        least, words = _least(state, curve)
        error = STANDARD_ERRORS * sampling_error(least, curve.examples) if rounds >= SOME_ROUNDS else 0.0
        stuck = least < 1.0 and curve.best[1] <= least + error
        words += f" beyond the ±{as_percent(error)} of {curve.examples} test examples" if curve.best[1] > least else ""
    else:
        first, span = abs(curve.values[0]), max(curve.values) - min(curve.values)
        still = first > 0 and span <= STILL * first
        stuck = still or (curve.initial is not None and curve.best[1] <= curve.initial)
        words = f"{as_metric(state.metric)(curve.initial)} before training" if not still else "the first one"
    if not stuck:
        return None
    text = f"no round was better than {words}: {_beside(state, curve)}; {_help(state, _what_lets_learn(state, curve))}"
    return Finding("not learning", text)


def saw_tooth(state: RunState, curve: LearningCurve) -> Finding | None:
    """Accuracy falls again and again until the end, so that the last round is as good as its luck."""
    if not state.finished or state.metric != "accuracy":
        return None
    newest = curve.values[-min(WINDOW, len(curve.points) // 2) - 1 :]
    lost = (before - after for before, after in pairwise(newest))
    falls, steps = sorted(fall for fall in lost if fall > _bound(curve)), len(newest) - 1
    if steps < FEWEST_STEPS or len(falls) < FALLING_SHARE * steps:
        return None
    size = f"{100 * falls[0]:.1f} to {100 * falls[-1]:.1f} points in {len(falls)} of the last {steps} rounds"
    helps = f"{RATE}, fewer local steps, more clients a round"
    return Finding(
        "saw-tooth",
        f"accuracy fell by {size}: {_beside(state, curve)}; the median is what to go by, for the last round is a "
        f"matter of luck; {_help(state, helps)}",
    )


def past_best(state: RunState, curve: LearningCurve) -> Finding | None:
    """The last round is far below the best one."""
    number, best = curve.best
    if not state.finished or state.metric != "accuracy" or best - curve.last <= _bound(curve):
        return None
    helps = f"{RATE}, or fewer rounds; a good artefact of round {number} is in its folder where export.every makes one"
    return Finding(
        "past its best",
        f"the last round is {100 * (best - curve.last):.1f} points below round {number}: {_beside(state, curve)}; "
        f"{_help(state, helps)}",
    )


_LOOKS: tuple[Callable[[RunState, LearningCurve], Finding | None], ...] = (plateau, saw_tooth, past_best)


def _least(state: RunState, curve: LearningCurve) -> tuple[float, str]:
    """The accuracy that takes no learning, in words too: of the untrained model, or of one and the same answer."""
    labels = state.data.get("labels") or ()
    constant, words = (1 / len(labels), f"chance among {len(labels)} classes") if labels else (0.0, "nothing")
    counts = next((record["confusion"] for _, record in state.evaluations() if record.get("confusion")), None)
    if counts:
        answered = max(range(len(counts)), key=lambda number: sum(counts[number]))
        constant = sum(counts[answered]) / sum(map(sum, counts))
        words = f"always answering {labels[answered] if labels else answered}"
    if curve.initial is not None and curve.initial >= constant:
        constant, words = curve.initial, "the untrained model"
    return constant, f"{words} ({as_percent(constant)})"


def _what_lets_learn(state: RunState, curve: LearningCurve) -> str:
    same = len({*curve.values}) == 1
    usual = [
        f"{'a higher' if same else 'another'} clients.optimizer.learning_rate{'' if same else ', a low one first'}",
        "inputs scaled to input_range",
        "normalised inputs of deep nets",
        "ranges that fit the activations (quant.ranges)",
    ]
    if state.metric != "accuracy":
        usual.append("targets within the output_range of the last layer")
    if state.privacy:
        usual.append("larger batches, fewer steps or more epsilon, for noise hides small steps")
    return "; ".join(usual)


def _bound(curve: LearningCurve) -> float:
    return max(LEAST_FALL, STANDARD_ERRORS * sampling_error(curve.median_last, curve.examples))


def _beside(state: RunState, curve: LearningCurve) -> str:
    """The last round with the best and the median of the last ones beside it."""
    show, (number, best) = as_metric(state.metric), curve.best
    return (
        f"last {show(curve.last)}, best {show(best)} (round {number}), median of the last "
        f"{min(LAST_ROUNDS, len(curve.points))} {show(curve.median_last)}"
    )


def _help(state: RunState, usually: str) -> str:
    """What usually helps; nothing of it does against clients that lie."""
    return "clients lie in this run, which may be all there is to it" if state.attack else f"usually helps: {usually}"
