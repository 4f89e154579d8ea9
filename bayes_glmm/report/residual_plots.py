"""Residuals of linear models, as figures for a notebook.

>>> plot_variogram(fit).savefig("variogram.png")
"""

import numpy as np
from matplotlib.figure import Figure

from ..fit import Fit, check_fit
from ..methods import NotServedError
from ..semivariance import variogram
from .figures import variogram as figures
from .figures.canvas import styled


def plot_variogram(
    fit: Fit, time: str | None = None, by: str | None = None, bins: int | None = None
) -> Figure:
    """Draw the empirical variogram of the residuals, and the one that the fit implies over it.

    Parameters and errors are those of ``variogram``.
    """
    check_fit(fit, "plot_variogram")
    return styled(figures.variogram_figure)(variogram(fit, time, by, bins))


def plot_residuals(fit: Fit) -> Figure:
    """Draw residuals of a gaussian model along the fitted values, and against normal quantiles.

    Residuals are ``y - X beta - Z b`` in units of the residual SD, with the group effects of a
    mixed model at their predictions; the grey band holds each ordered residual in 95 % of normal
    samples of independent rows.

    Raises
    ------
    NotServedError
        For other families and links.
    """
    check_fit(fit, "plot_residuals")
    return styled(figures.residuals_figure)(*standardised(fit))


def standardised(fit: Fit) -> tuple[np.ndarray, np.ndarray]:
    """Fitted values with group effects at their predictions, and residuals in SDs, ``(n,)``."""
    model = fit.model
    if not model.is_linear:
        raise NotServedError(
            f"plot_residuals() got family={model.family.name!r} with link={model.link.name!r}: it "
            "serves gaussian models with identity link."
        )
    design = model.design.in_user_order()
    fitted = design.X @ fit.beta + design.offset
    for block in design.groups:
        if block.group in fit.effects:
            effects = fit.effects[block.group].estimate
            fitted = fitted + np.einsum("ia,ia->i", block.Z, effects[block.index])
    residual = design.y - fitted
    scale = fit.dispersion or float(np.std(residual))
    return fitted, residual / scale
