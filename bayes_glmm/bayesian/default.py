"""The posterior where no method was asked for: Integrated where it serves, NUTS otherwise."""

from dataclasses import replace

from ..fit import Fit
from ..messages import message
from ..methods import NUTS, Integrated, NotServedError
from .integrated import fit as integrate
from .integrated import refusal


def fit(model) -> Fit:
    """Sample the posterior, and say by which method and why."""
    reason = refusal(model)
    if not reason:
        try:
            groups = ", ".join(g.group for g in model.design.groups)
            note = message(
                "default-method",
                method="Integrated()",
                reason=f"the effects of {groups} can be integrated out by quadrature",
            )
            found = integrate(model, Integrated())
            return replace(found, messages=(note, *found.messages))
        except NotServedError as refused:
            reason = str(refused).removesuffix(": use NUTS().").removeprefix("Integrated() ")
    else:
        reason = f"the model is {reason}" if reason.startswith("a model") else f"it has {reason}"
    method = NUTS()
    found = method.load()(model, method)
    return replace(
        found, messages=(message("default-method", method="NUTS()", reason=reason), *found.messages)
    )
