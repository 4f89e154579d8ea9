r"""Criteria for choosing mean structures and working correlations: QIC, QICu and CIC.

With the quasi-likelihood :math:`Q` of independent rows, the information
:math:`\Omega_I = B_I / \phi` of independent rows and the robust covariance :math:`V_R`, all at
the estimate,

.. math:: \mathrm{QIC} = -2 Q / \phi + 2\,\mathrm{tr}(\Omega_I V_R), \qquad
   \mathrm{QICu} = -2 Q / \phi + 2 p, \qquad \mathrm{CIC} = \mathrm{tr}(\Omega_I V_R)

(Pan 2001; CIC: Hin & Wang 2009).
"""

import numpy as np
import pandas as pd

from ...fit import Fit
from ...numerics.quasi_likelihood import quasi_score
from .pose import bound_of


def qic(*fits: Fit, scale: float | None = None) -> pd.DataFrame:
    """Set criteria of estimating equations side by side; smaller is better.

    Parameters
    ----------
    *fits
        By GEE, of the same responses.
    scale
        The dispersion that all are judged with. Default: the one estimated with the most
        coefficients (of several such fits the first), since criteria compare only at a common
        scale.

    Returns
    -------
    DataFrame
        ``label, corr, npar, qic, qicu, cic, quasi_likelihood, scale``, in the order given.
        QIC compares mean structures and working correlations, CIC working correlations (its
        part that depends on them), QICu mean structures only. Only differences mean something:
        constants that depend on the data alone are left out of the quasi-likelihood.

    Raises
    ------
    ValueError
        If a fit is not by GEE, or the responses differ.

    Notes
    -----
    geepack's QIC divides by no scale in ``Q`` but by each fit's own in the trace, and so
    compares fits of overdispersed counts differently.
    """
    check(fits)
    most = max(fits, key=lambda f: len(f.beta))
    common = float(most.details["scale"] if scale is None else scale)
    if not common > 0:
        raise ValueError(f"qic(scale={scale!r}) must be positive.")
    return pd.DataFrame([row(fit, common) for fit in fits])


def row(fit: Fit, scale: float) -> dict:
    """Criteria of one fit."""
    d = fit.model.design
    bound = bound_of(fit.model, fit.method)
    eta = d.X @ fit.beta + d.offset
    quasi = float(np.sum(bound.log_density(d.y, d.trials, eta, bound.dispersion)[0])) / scale
    information = quasi_score(bound, d.y, d.trials, eta)[1]
    omega = (d.X.T * information) @ d.X / scale
    cic = float(np.sum(omega * fit.vcovs["robust"]))
    p = len(fit.beta)
    return {
        "label": fit.label,
        "corr": fit.details["corr"],
        "npar": p,
        "qic": -2 * quasi + 2 * cic,
        "qicu": -2 * quasi + 2 * p,
        "cic": cic,
        "quasi_likelihood": quasi,
        "scale": scale,
    }


def check(fits: tuple[Fit, ...]) -> None:
    """Refuse what has no such criterion, or is of other responses."""
    if not fits:
        raise ValueError("qic() got no fits: give fits by GEE, as qic(model.fit('gee')).")
    for fit in fits:
        if not isinstance(fit, Fit) or fit.method.name != "gee":
            what = fit.label if isinstance(fit, Fit) else type(fit).__name__
            raise ValueError(
                f"qic() got {what}, and QIC is a criterion of estimating equations: give fits by "
                "GEE; fits with a likelihood have AIC."
            )
        if fit.estimand != "population-averaged":
            raise ValueError(
                f"qic() got {fit.label}, whose coefficients are conditional on the random effects: "
                "QIC needs a model of the marginal mean."
            )
    first = fits[0].model
    for fit in fits[1:]:
        a, b = first.design, fit.model.design
        same = a.n == b.n and np.array_equal(a.to_user(a.y), b.to_user(b.y))
        if fits[0].method.dispersion != fit.method.dispersion:
            raise ValueError(
                f"qic() got {fits[0].label!r} and {fit.label!r} of different dispersions: give "
                "them the same GEE(dispersion=…)."
            )
        if not same or first.family != fit.model.family:
            raise ValueError(
                f"qic() got {fits[0].label!r} and {fit.label!r} of different responses or "
                "families: criteria compare models of the same rows under one family."
            )
