r"""Gaussian responses whose rows are correlated within clusters, in the PyMC graph.

.. math:: y \mid \eta \sim N(\mu, \sigma^2 R(\alpha)), \qquad
   \log p(y) = \sum_j \log N(w_j; 0, \sigma^2) - \log L_{jj}, \quad w = L^{-1}(y - \mu)

The term of a row is its log density given the earlier rows of its cluster
(``numerics.innovations``), so that the terms add up to the log density of all. The correlations of
the distinct distances are formulas of the parameters (``residual.between``); what follows them, the
Cholesky factors of the distinct patterns of times, is one operation of PyTensor whose machine code
serves every model. Where rounding leaves a matrix that is not positive definite there is no
density: minus infinity, which a sampler takes for a divergence.
"""

from typing import Any, cast

import numpy as np
import pytensor.tensor as pt
from pytensor.compile.sharedvalue import shared

from .arrangement import Arrangement
from .correlated_normal import CorrelatedNormal


def respond(model, y, mean, scale, values) -> None:
    """Relate the observed ``y`` to its mean, residual SD and correlation; in a PyMC model.

    Parameters
    ----------
    model
        The GLMM.
    y
        The observed responses.
    mean, scale
        Of each row, and the residual SD.
    values
        Parameters of the residual correlation: a list, or a vector of correlations.
    """
    arrangement = Arrangement.of(model)
    names = ("size", "place", "rows")
    arrays = [
        shared(a, name=f"residual {name}", shape=a.shape)
        for name, a in zip(names, arrangement.arrays, strict=True)
    ]
    d = arrangement.distance
    distance = shared(d, name="residual distance", shape=d.shape)
    correlations = arrangement.correlation.between(values, distance, pt.exp)
    CorrelatedNormal("y", mean, scale, correlations, arrays, observed=y, dims="observation")


def correlations_of(partial, times: int) -> Any:
    """Correlations from canonical partial correlations, in the order of ``priors.correlations``.

    The same as ``cholesky_rows`` in vectors: as many times have the square of that many symbols.
    """
    column, row = np.triu_indices(times, 1)
    empty: Any = pt.zeros((times, times))
    below: Any = pt.set_subtensor(empty[row, column], partial)
    logs: Any = 0.5 * cast("Any", pt.log1p(-below * below))
    earlier = np.triu(np.ones((times, times)), 1)  # of column m before column j
    left: Any = pt.exp(pt.sum(logs[:, :, None] * earlier, axis=1))
    L = (below + np.eye(times)) * left
    return pt.sum(L[row] * L[column], axis=1)
