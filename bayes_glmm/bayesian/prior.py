r"""The model before the data: parameters, group effects and responses drawn from the priors.

.. math:: \beta, \mathrm{sd}, R, \phi \sim \pi, \quad b_l \sim N(0, D), \quad
   y_i \sim F(g^{-1}(x_i'\beta + z_i'b), \phi)

Responses are those to the rows of the data, their groups, offsets and trials. NumPy only: no
graph is made and nothing is sampled by a Markov chain.
"""

import numpy as np
import xarray as xr

from ..datatree import coords_of, dataset, numbered
from ..priors import ImproperPriorError
from .arrangement import Arrangement, simulate, values_of
from .tree import correlation_matrices, linear_predictor, prior_draws

LARGEST = 1e100  # SD used: one of a heavy tail may be drawn as infinite, which gives no sums


def prior_predictive(model, draws: int = 1000, seed: int = 1) -> xr.DataTree:
    """Draw parameters, group effects and responses from the priors.

    Parameters
    ----------
    model
        The GLMM.
    draws, seed
        Independent draws (one chain), and the seed of their stream.

    Returns
    -------
    DataTree
        ``prior`` (variables as in a posterior, ``b_<group>`` among them), ``prior_predictive``
        and ``observed_data`` (``y``, successes where there are trials); rows in the user's
        order. A response is NaN where the link has no mean at the linear predictor drawn, as
        below zero under the inverse link.

    Raises
    ------
    ImproperPriorError
        If a prior is improper.
    ValueError
        If ``draws`` is not a positive whole number.
    """
    if isinstance(draws, bool) or not isinstance(draws, int | np.integer) or draws < 1:
        raise ValueError(f"draws={draws!r} must be a whole number of at least 1.")
    improper = [row for row in model.priors.assigned if not row.prior.proper]
    if improper:
        raise ImproperPriorError(
            f"The prior {improper[0].prior.describe()} of {improper[0].parameter} is improper, "
            "so nothing can be drawn from it: give it a proper prior to see what it says."
        )
    design = model.design.in_user_order()
    rng = np.random.default_rng(np.random.SeedSequence(seed))
    drawn = prior_draws(model, rng, int(draws))
    for block in design.groups:
        drawn[f"b_{block.group}"] = group_effects(block, drawn, rng)[None]
    rows = {"observation": coords_of(design)["observation"]}
    y = responses(model, design, drawn, int(draws), rng)
    return xr.DataTree.from_dict(
        {
            "prior": dataset(model, drawn),
            "prior_predictive": numbered(
                xr.Dataset({"y": (("chain", "draw", "observation"), y[None])}, coords=rows)
            ),
            "observed_data": xr.Dataset({"y": ("observation", design.y)}, coords=rows),
        }
    )


def group_effects(block, drawn, rng) -> np.ndarray:
    """Draw ``b`` given SDs and correlations, shape (draws, levels, columns)."""
    sd = np.minimum(drawn[f"sd_{block.group}"][0], LARGEST)
    u = rng.standard_normal((len(sd), block.n_levels, block.q))
    if block.pairs:
        # the symmetric root, which exists where rounding leaves a matrix without a Cholesky factor
        values, vectors = np.linalg.eigh(correlation_matrices(block, drawn)[0])
        root = vectors * np.sqrt(np.maximum(values, 0.0))[:, None, :]
        u = u @ np.swapaxes(root, -1, -2)
    if block.root is not None:
        u = block.root @ u
    return u * sd[:, None, :]


def responses(model, design, drawn, size: int, rng) -> np.ndarray:
    """Draw responses given everything else, shape (draws, n)."""
    beta = drawn["beta"][0] if "beta" in drawn else np.zeros((size, 0))
    effects = [drawn[f"b_{block.group}"][0] for block in design.groups]
    eta = linear_predictor(design, beta, effects)
    without = eta <= model.link.lowest
    mean = model.link.inverse(np.where(without, model.link.lowest + 1.0, eta))[0]
    dispersion: np.ndarray | float = 1.0
    if "dispersion" in drawn:
        dispersion = np.minimum(drawn["dispersion"][0][:, None], LARGEST)
    if model.residual is not None:
        arrangement, values = Arrangement.of(model), values_of(model, drawn)[0]
        scales = np.ravel(dispersion)
        for d in range(size):
            held = arrangement.correlations(values[d]), arrangement.arrays
            mean[d] += simulate(rng, scales[d], *held)
        return np.where(without, np.nan, mean)
    y = model.family.simulate(rng, mean, design.trials, dispersion)
    return np.where(without, np.nan, y)
