"""What a device refuses of a plan whatever a server says: a server is not trusted to have checked any of it."""

from __future__ import annotations

from fl_core.errors import PolicyError, WireError
from fl_core.parts import ASKED_PARTS, check_private
from fl_core.privacy.policy import DevicePolicy
from fl_core.spec import TrainingSpec
from fl_core.types import RoundPlan
from strategies.base import REFUSED_UNDER_DP, Strategy


def check_plan(plan: RoundPlan, spec: TrainingSpec, strategy: Strategy | None, policy: DevicePolicy | None) -> None:
    """Refuse a plan that asks for what this client cannot send, or not under DP.

    Args:
        plan: what the server asks.
        spec: the plan's ``training``, parsed.
        strategy: what is trained with; None where nothing is trained.
        policy: what the device allows; without one it is asked for no DP either.

    Raises:
        WireError: the plan asks for parts that nobody knows.
        PolicyError: plan and device do not agree on DP, or something would leave without noise under it.
    """
    who = f"client {plan.client_id}"
    unknown = sorted(set(plan.asks) - set(ASKED_PARTS))
    if unknown:
        raise WireError(f"{who}: plan asks for parts {unknown}, expected some of {sorted(ASKED_PARTS)}")
    if plan.dp is None and policy is None:
        return
    if plan.dp is None or policy is None:
        wanted, got = ("a plan with DP", "one without") if plan.dp is None else ("a policy", "none")
        raise PolicyError(f"{who}: this device trains under DP and its own policy only; expected {wanted}, got {got}")
    if spec.quant.ranges == "ema":
        raise PolicyError(f"{who}: running ranges of private examples do not leave a device under DP, got ema")
    for trait in sorted(strategy.traits & REFUSED_UNDER_DP.keys() if strategy else ()):
        raise PolicyError(f"{who}: {type(strategy).__name__} under DP: {REFUSED_UNDER_DP[trait]}")
    try:
        check_private(plan.asks)
    except PolicyError as refused:
        raise PolicyError(f"{who}: {refused}") from None
