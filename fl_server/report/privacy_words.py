"""Privacy in plain words: what one run promises, to whom, what it hides and what it does not.

The sentences are made from the ``privacy`` and ``data`` fields of the event that opened the run, so that the report,
the closing table and the outline of a config say the same thing.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from fl_server.watch.words import NOT_PRIVATE

NO_DP_PROMISE = (
    "This run has no differential privacy: what a client sends, and the models made of it, may reveal single training "
    "examples. The raw data stays with the client, which is no guarantee by itself."
)
SIMULATED_NOISE = (
    "Simulated noise: it is drawn from named seeds, which anyone can repeat, so this run protects nobody. It shows "
    "what the same run costs in accuracy where clients keep their noise secret."
)
NAMED_SEEDS = (
    "At least one device of this run draws its noise from named seeds, which anyone can repeat: its device.yaml says "
    "simulated: true. What it sends, and every model made of it, may reveal single training examples; no epsilon "
    "holds, so none is given."
)
TUNING = (
    "Tuning is not accounted: choosing a learning rate, a model or a clip norm by looking at runs on the same private "
    "data spends privacy that no figure here includes."
)
OTHER_MODEL = (
    "These runs train different models ({models}), each suited to its own run, so the distance between them is not the "
    "price of privacy alone."
)
NO_DEVICE_DP = (
    "The devices add no noise of their own: the server sees what each client sends, and what that may reveal of single "
    "training examples. What leaves the server hides whole clients, as said below."
)
USER_TRUST = (
    "The server is trusted with the updates: it sees every one of them, and its checkpoints, ledger and log must stay "
    "as private as they are. The promise holds for whoever sees the models that it gives out."
)
USER_RUNS = "Runs are accounted one by one: what several runs on the same clients spend adds up."
SIMULATION_ONLY = "simulation only: on boards this stays on the board"


@dataclass(frozen=True)
class PrivacyWords:
    """The privacy section of a report. ``facts`` are (term, value) pairs."""

    headline: str
    promise: str
    hides: str
    not_hidden: tuple[str, ...]
    caveats: tuple[str, ...]
    facts: tuple[tuple[str, str], ...]


def unit_sentence(unit_text: str, not_hidden: str) -> str:
    """One sentence that stands below every figure with an epsilon."""
    sentence = f"Unit of privacy: one {_bare(unit_text)}."
    return f"{sentence} Not hidden: {_closed(not_hidden)}" if not_hidden else sentence


def model_sentence(models: Iterable[str | None]) -> str:
    """What to know before runs are compared that do not train the same model; empty where they do."""
    different = list(dict.fromkeys(str(model) for model in models if model))
    return OTHER_MODEL.format(models=", ".join(different)) if len(different) > 1 else ""


def noise_sentence(simulated: bool, named_seeds: bool) -> str:
    """What to know of noise that anyone can draw again, in a simulation or on boards; empty where it is secret."""
    if named_seeds:
        return NAMED_SEEDS
    return SIMULATED_NOISE if simulated else ""


def describe_user(user: Mapping[str, Any] | None, epsilon_spent: float | None) -> PrivacyWords | None:
    """The plain words for noise at the server; None without it."""
    if user is None:
        return None
    epsilon = float(user["epsilon"] if epsilon_spent is None else epsilon_spent)
    sampled = user.get("sample_rate", 1.0) < 1
    return PrivacyWords(
        headline="Differential privacy for one whole client",
        promise=(
            "Whoever sees every model that the server gives out can hardly tell whether one whole client, with all of "
            f"its examples, took part. Its taking part changes the probability of anything that they can see by at "
            f"most a factor of e^epsilon = {_factor(epsilon)}, except with probability delta = {user['delta']:g}."
        ),
        hides="Hidden: whether one client took part, and everything that it holds.",
        not_hidden=(USER_TRUST, USER_RUNS),
        caveats=((SIMULATED_NOISE,) if user.get("simulated") else ()) + (TUNING,),
        facts=(
            ("unit of privacy", "one whole client"),
            ("epsilon spent", "nothing yet" if epsilon_spent is None else f"{epsilon_spent:.3f}"),
            ("epsilon, cap of the whole run", f"{user['epsilon']:g}"),
            ("delta", f"{user['delta']:g}"),
            ("accountant", f"{user['accountant']}, neighbours differ by one client more or less"),
            ("noise", "tree aggregation over the rounds" if user["mechanism"] == "tree" else "new in every round"),
            ("amplification by sampling", f"at rate {user['sample_rate']:g}" if sampled else "none claimed"),
            ("clip norm of an update", f"{user['clip_norm']:g}" + (" at first" if "target_quantile" in user else "")),
            ("noise multiplier", f"{user['noise_multiplier']:.4g}"),
        ),
    )


def user_sentence(user: Mapping[str, Any] | None) -> str:
    """One line below a table; empty without noise at the server."""
    if user is None:
        return ""
    spent = "nothing yet" if user["epsilon"] is None else f"epsilon {user['epsilon']:.3f}"
    return (
        f"Whole clients: {spent} at delta {user['delta']:g} for one client with all of its examples, against whoever "
        "sees the models; the server is trusted with the updates."
    )


def describe(
    privacy: Mapping[str, Any] | None,
    data: Mapping[str, Any],
    epsilon_spent: float | None,
    whole_clients: bool = False,
    named_seeds: bool = False,
) -> PrivacyWords:
    """The plain words for one run's devices; ``epsilon_spent`` is the largest of any client so far.

    ``whole_clients``: the server adds noise of its own. ``named_seeds``: noise of a board is anyone's to draw again.
    """
    if privacy is None and whole_clients:
        return PrivacyWords("No differential privacy on the devices", NO_DEVICE_DP, "", (), (), ())
    if privacy is None:
        unit = _bare(str(data.get("unit") or "example"))
        return PrivacyWords(
            headline="No differential privacy",
            promise=NO_DP_PROMISE,
            hides=f"Nothing is hidden by noise: not even one {unit}.",
            not_hidden=(),
            caveats=(),
            facts=(),
        )
    unit = _bare(str(privacy.get("unit_text") or data.get("unit") or "example"))
    if named_seeds:
        nothing = f"Nothing is hidden by noise: not even one {unit}."
        return PrivacyWords(NOT_PRIVATE.capitalize(), NAMED_SEEDS, nothing, (), (), (("epsilon", NOT_PRIVATE),))
    epsilon = privacy["epsilon"] if epsilon_spent is None else epsilon_spent
    promise = (
        f"For every client alone: whoever sees all that it sends in the whole run, the server included, and every "
        f"model made of it, can hardly tell whether one {unit} was among its training examples. Its presence changes "
        f"the probability of anything that they can see by at most a factor of e^epsilon = {_factor(float(epsilon))}, "
        f"except with probability delta = {privacy['delta']:g}. A smaller epsilon is a stronger promise."
    )
    return PrivacyWords(
        headline=f"Differential privacy for one {unit}",
        promise=promise,
        hides=f"Hidden: whether one {unit} took part, and what it holds.",
        not_hidden=tuple(_not_hidden(unit, str(privacy.get("not_hidden") or data.get("not_hidden") or ""))),
        caveats=((SIMULATED_NOISE,) if privacy.get("simulated") else ()) + (TUNING,),
        facts=tuple(_facts(privacy, epsilon_spent)),
    )


def _not_hidden(unit: str, from_data: str) -> list[str]:
    said = [_closed(from_data[0].upper() + from_data[1:])] if from_data else []
    return [
        *said,
        f"Whatever shows in many examples of one client at once: k examples that belong together are protected with k "
        f"times this epsilon (and a larger delta) only, not as one {unit}.",
        "That a client takes part, when, how many bytes it sends, and the order of magnitude of its example count.",
        "What is true of the whole population: the model is meant to learn that.",
    ]


def _facts(privacy: Mapping[str, Any], epsilon_spent: float | None) -> list[tuple[str, str]]:
    spent = "nothing yet" if epsilon_spent is None else f"{epsilon_spent:.3f}"
    return [
        ("unit of privacy", f"one {_bare(str(privacy.get('unit_text') or privacy['unit']))}"),
        ("epsilon spent over all runs, largest of any client", spent),
        ("epsilon, cap of the whole run", f"{privacy['epsilon']:g}"),
        ("delta", f"{privacy['delta']:g}"),
        ("accountant", f"{privacy['accountant']}, Poisson sampling, neighbours differ by one example more or less"),
        ("clip norm", f"{privacy['clip_norm']:g}"),
        ("noise multiplier", span(privacy.get("noise_multiplier") or {})),
        ("sample rate", span(privacy.get("sample_rate") or {})),
        ("steps of a round", span(privacy.get("steps") or {})),
    ]


def span(by_client: Mapping[str, float]) -> str:
    """Values by client in few words: "1.2" where all are alike, else "1.1 to 1.4 (by client)"."""
    values = sorted(set(by_client.values()))
    if not values:
        return "unknown"
    return f"{values[0]:.4g}" if len(values) == 1 else f"{values[0]:.4g} to {values[-1]:.4g} (by client)"


def _factor(epsilon: float) -> str:
    return f"{math.exp(epsilon):,.1f}" if epsilon < 5 else f"{math.exp(min(epsilon, 700.0)):,.0f}"


def _bare(text: str) -> str:
    """A noun without its article and full stop, so that "one ..." can stand before it."""
    words = text.strip().rstrip(".")
    for article in ("a ", "an ", "one "):
        if words.lower().startswith(article):
            return words[len(article) :]
    return words


def _closed(text: str) -> str:
    return text.rstrip().rstrip(".") + "."
