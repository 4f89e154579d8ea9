r"""The model as a PyMC graph, with the names every DataTree of the package has.

.. math::
   \beta_k \sim \pi_k, \quad \mathrm{sd}_{gc} \sim \pi_{gc}, \quad R_g \sim \mathrm{LKJ}, \quad
   u_{gl} \sim N(0, I), \quad b_{gl} = \operatorname{diag}(\mathrm{sd}_g) L_g u_{gl}, \quad
   L_g L_g' = R_g

Group effects are non-centred, so that a standard deviation of zero is an ordinary point. The
sampler moves in ``raw_b = u h``, ``h = sqrt(1 + w sd^2)``, with ``w`` the information about
the effect where every row has the mean response (matrices for several columns). Given the
data, ``u`` is about ``h`` times narrower than its prior, so ``raw_b`` has about unit scale
whatever the standard deviation: non-centred where the data say little, centred where they say
much. The density is that of the model above for any ``w``; only the mixing depends on it (two
to three times the effective sample size of the standard deviations on the example data).

Under a joint prior (``R2D2M2``) the standard deviations, and those of the coefficients, are
functions of ``r2``, ``phi`` and the dispersion. Correlation matrices are built from their
canonical partial correlations, whose priors under LKJ are independent (``priors.correlations``).
Residuals that are correlated within clusters have the parameters ``residual_…`` and one observed
variable for all rows (``correlated_response``).
Variables named ``raw_…`` carry the randomness where the quantity of interest is derived from it.
"""

from typing import Any, cast

import numpy as np
import pymc as pm
import pytensor.tensor as pt
from pytensor.compile.sharedvalue import shared

from ..datatree import coords_of, residual_coords
from ..priors.correlations import cholesky_rows, pairs
from ..propriety import require_posterior
from .arrangement import Arrangement, usual_values
from .bind import quantity
from .correlated_response import correlations_of, respond


def build_graph(model) -> pm.Model:
    """Write a GLMM as a PyMC model.

    Rows are in the user's order, under the labels of the user's index where these are
    unique. The columns and the response are data containers: ``pm.set_data`` with
    ``X_data``, ``y_data``, and where the model has them ``offset_data``, ``trials_data``,
    ``index_<group>`` and ``Z_<group>``, prepares posterior prediction for new rows of the
    same groups. With residual correlation the rows stay those of the data, whose clusters and
    times are part of the graph; their columns may change.

    Parameters
    ----------
    model
        The GLMM.

    Returns
    -------
    pymc.Model
        Variables ``beta`` (dim ``term``), ``sd_<group>`` and ``b_<group>`` for each grouping
        factor, ``corr_<group>`` where effects are correlated, ``residual_<parameter>`` where
        residuals are, ``dispersion`` where the family has one, and the observed ``y`` (dim
        ``observation``).

    Raises
    ------
    ImproperPosteriorError
        If improper priors were allowed, and the posterior does not exist or may not.
    """
    require_posterior(model)
    design = model.design.in_user_order()
    with pm.Model(coords=coords_of(design) | residual_coords(model)) as graph:
        dispersion = _dispersion(model)
        scales = _shared(model.priors.joint, dispersion)
        weights = null_weights(model, design)
        if scales is None:
            beta = independent("beta", model.priors.beta, "term") if design.p else None
        else:
            beta = _shrunk(design, model.priors, scales, weights, dispersion)
        eta = _fixed(design, beta)
        for block in design.groups:
            known = level_information(block, weights, model)
            information = number(f"information {block.group}", known)
            if model.family.dispersion_is_scale:
                information = information / (dispersion * dispersion)
            eta = eta + _random(block, model.priors, information, scales)
        _response(design, model, eta, dispersion)
    return graph


def _shared(joint, dispersion) -> Any:
    """SDs of the coefficients and effects whose variances share one ``R2``; None without it.

    The sampler moves in the logs of the variances, ``R2 / (1 - R2) * phi``.
    """
    if joint is None:
        return None
    count = len(joint.components)
    cast("Any", pm.modelcontext(None)).add_coord("component", joint.components)
    variances: Any = pm.HalfFlat("raw_r2", shape=count)
    pm.Potential("r2_kernel", joint.prior.log_density_of_variances(variances, count, pt.log))
    total: Any = pt.sum(variances)
    pm.Deterministic("r2", total / (np.float64(1) + total))
    pm.Deterministic("phi", variances / total, dims="component")
    return joint.scales(variances, dispersion, pt.sqrt)


def _shrunk(design, priors, scales, weights, dispersion) -> Any:
    """Coefficients whose SDs are given, moved in as the effects are; the intercept as it is."""
    at = list(priors.joint.coefficients)
    if not at:
        return independent("beta", priors.beta, "term")
    X = design.X[:, at]
    if len(at) < design.p:  # the intercept takes their means
        X = X - np.average(X, axis=0, weights=weights)
    information: Any = weights @ X**2
    if priors.joint.by_dispersion:
        information = information / (dispersion * dispersion)
    sd = scales[: len(at)]
    size = pt.sqrt(np.float64(1) + information * sd * sd)
    raw: Any = pm.Normal("raw_beta", np.float64(0), size)
    shrunk = raw / size * sd
    parts = {k: shrunk[component] for component, k in enumerate(at)}
    for k, prior in enumerate(priors.beta):
        if k not in parts:
            parts[k] = _draw(f"raw_beta_{k}", prior)
    return pm.Deterministic("beta", pt.stack([parts[k] for k in range(design.p)]), dims="term")


def _fixed(design, beta) -> Any:
    """``X beta`` and the offset."""
    eta: Any = pt.zeros(design.n)
    if design.p:
        X = pm.Data("X_data", design.X, dims=("observation", "term"))
        eta = _product(X, beta)
    if design.formula.offsets:
        eta = eta + pm.Data("offset_data", design.offset, dims="observation")
    return eta


def _random(block, priors, information, scales) -> Any:
    """``Z b`` of one grouping factor."""
    group = block.group
    dims = (group, f"{group}_term")
    if priors.covariance[group] is not None:
        factor = _covariance(block, priors.covariance[group])
    else:
        sd: Any
        if scales is None:
            sd = independent(f"sd_{group}", priors.sd[group], dims[1])
        else:
            sd = pm.Deterministic(f"sd_{group}", scales[priors.joint.effects[group]], dims=dims[1])
        L = _correlation(block, priors.corr[group]) if block.pairs else pt.eye(block.q)
        factor = L * sd[:, None]
    u = _whitened(group, block.q, factor, information)
    if block.root is not None:  # vec b ~ N(0, A x D)
        u = pt.dot(number(f"root {group}", block.root), u)
    b: Any = pm.Deterministic(f"b_{group}", _product(u[:, None, :], factor), dims=dims)
    index = pm.Data(f"index_{group}", block.index, dims="observation")
    if block.q == 1 and np.all(block.Z == 1.0):
        return b[index, 0]
    Z = pm.Data(f"Z_{group}", block.Z, dims=("observation", dims[1]))
    return _product(Z, b[index])


def _whitened(group: str, q: int, factor: Any, information: Any) -> Any:
    """Make standard normal ``u``, shape (levels, q), of raw variables of unit posterior scale.

    With ``K K' = I + factor' W factor`` for each level (``W`` its information), ``raw = K' u``:
    column by column, ``raw_j ~ N(sum_{i<j} K_ij u_i, K_jj^2)``. ``K`` is upper triangular as
    ``factor'`` is, so that ``K^-1 factor'`` tends to a constant, and with it the posterior mean
    of ``raw``, where the data say much.
    """
    precision = [
        [float(j == k) + _total(_outer(factor, j, k) * information) for k in range(q)]
        for j in range(q)
    ]
    K = upper_factor(precision)
    u: list = []
    for j in range(q):
        mean = sum((K[i][j] * u[i] for i in range(j)), np.float64(0))
        raw: Any = pm.Normal(f"raw_b_{group}_{j}", mean, K[j][j], dims=group)
        u.append((raw - mean) / K[j][j])
    return pt.stack(u, axis=1)


def _total(matrices) -> Any:
    return pt.sum(matrices, axis=(1, 2))


def _outer(factor, j: int, k: int) -> Any:
    """Entries that ``W`` is summed with for element (j, k) of ``factor' W factor``."""
    return factor[:, j][:, None] * factor[:, k][None, :]


def upper_factor(matrix: list[list]) -> list[list]:
    """Upper triangular ``K`` with ``K K' = matrix``, whose entries are arrays or symbols."""
    q = len(matrix)
    K: list[list] = [[None] * q for _ in matrix]
    for j in reversed(range(q)):
        for i in reversed(range(j + 1)):
            left = matrix[i][j] - sum(K[i][m] * K[j][m] for m in range(j + 1, q))
            K[i][j] = pt.sqrt(left) if i == j else left / K[j][j]
    return K


def null_weights(model, design) -> np.ndarray:
    """Fisher information of each row about ``eta`` where every row has the mean response."""
    total, trials = np.sum(design.y), np.sum(design.trials)
    high = model.link.mean_range.high
    if model.family.support.integer:  # half an event keeps the mean inside its range
        total, trials = max(total, 0.5), trials + 0.5 * (total >= trials * high)
    eta = model.link.link(total / trials) + design.offset - np.mean(design.offset)
    eta = np.where(eta > model.link.lowest, eta, np.max(eta))
    mu, slope, _, _ = (np.broadcast_to(part, eta.shape) for part in model.link.inverse(eta))
    family, rough = model.family, 1.0
    if family.has_dispersion and not family.dispersion_is_scale:
        rough = family.rough_dispersion(design.y, design.trials, mu)
    variance = family.variance(mu, rough) * family.excess(design.trials, rough)
    return design.trials * slope**2 / variance


def level_information(block, weights: np.ndarray, model=None) -> np.ndarray:
    """Null information about the effects of each level, shape (levels, q, q).

    Where residuals are correlated they are so by as much as is usual under their priors.
    """
    if model is not None and model.residual is not None:
        found = Arrangement.of(model).information(usual_values(model), block, weights)
    else:
        found = np.zeros((block.n_levels, block.q, block.q))
        cross = block.Z[:, :, None] * block.Z[:, None]
        np.add.at(found, block.index, weights[:, None, None] * cross)
    if block.root is None:
        return found
    return np.einsum("li,ljk->ijk", block.root**2, found)  # about u where b = root u


def _product(rows, vector) -> Any:
    """Inner products along the last axis; Numba compiles ``@`` for over a minute, this for one."""
    return pt.sum(rows * vector, axis=-1)


def _correlation(block, prior) -> Any:
    """Cholesky factor of the correlation matrix of a group's columns, shape (q, q)."""
    at = {pair: k for k, pair in enumerate(block.pairs)}
    shape = np.empty(len(at))
    for columns in block.blocks:
        found = prior.partial_shapes(len(columns))
        for (i, j), a in zip(pairs(len(columns)), found, strict=True):
            shape[at[columns[i], columns[j]]] = a
    dim = f"{block.group}_pair"
    partial = _partial(f"corr_{block.group}", dim, shape)
    factor = [[float(i == j) for j in range(block.q)] for i in range(block.q)]
    for columns in block.blocks:
        local = [partial[at[columns[i], columns[j]]] for i, j in pairs(len(columns))]
        for i, row in zip(columns, cholesky_rows(local, len(columns), pt.sqrt), strict=True):
            for j, entry in zip(columns, row, strict=True):
                factor[i][j] = entry
    L: Any = pt.stack([pt.stack(row) for row in factor])
    first, second = np.array(block.pairs).T
    pm.Deterministic(f"corr_{block.group}", pt.sum(L[first] * L[second], axis=1), dims=dim)
    return L


def _partial(name: str, dim: str, shape: np.ndarray) -> Any:
    """Canonical partial correlations, independent: ``(p + 1) / 2 ~ Beta(shape, shape)``."""
    held = number(f"raw_{name} shape", shape)
    unit: Any = pm.Beta(f"raw_{name}", alpha=held, beta=held, dims=dim)
    return np.float64(2) * unit - np.float64(1)


def _covariance(block, prior) -> Any:
    """Cholesky factor of a covariance matrix of a group's columns that has one prior, (q, q)."""
    group, dims = block.group, (f"{block.group}_term", f"{block.group}_pair")
    names = f"raw_sd_{group}", f"raw_corr_{group}"
    diagonal, below = (
        getattr(pm, kind)(name, dims=dim, **{k: np.asarray(v, float) for k, v in values.items()})
        for name, dim, (kind, values) in zip(names, dims, prior.pieces(block.q), strict=True)
    )
    pieces = [diagonal[k] for k in range(block.q)], [below[k] for k in range(len(block.pairs))]
    rows = prior.factor_rows(*pieces, block.q, pt.sqrt)
    factor: Any = pt.stack([pt.stack(row) for row in rows])
    sd: Any = pm.Deterministic(f"sd_{group}", pt.sqrt(pt.sum(factor**2, axis=1)), dims=dims[0])
    L = factor / sd[:, None]
    first, second = np.array(block.pairs).T
    pm.Deterministic(f"corr_{group}", pt.sum(L[first] * L[second], axis=1), dims=dims[1])
    return factor


def _dispersion(model) -> Any:
    """Return the dispersion parameter; one where the family has none."""
    prior = model.priors.dispersion
    if prior is None:
        return np.float64(1)
    if prior.proper and prior.stated_on == "value":
        return _draw("dispersion", prior)
    return pm.Deterministic("dispersion", _draw("raw_dispersion", prior))


def _response(design, model, eta, dispersion) -> None:
    """Relate the observed response to the linear predictor, as ``family.pymc`` says."""
    name, parameters = model.family.pymc
    known = {"dispersion": dispersion}
    if np.isfinite(model.link.lowest):  # no mean: no density
        inside = eta > model.link.lowest
        outside = pt.switch(inside, np.float64(0), -np.inf)
        pm.Potential("inside", cast("Any", pt.sum(outside)))
        eta = pt.switch(inside, eta, np.float64(model.link.lowest + 1.0))
    if "trials" in parameters.values():
        known["trials"] = pm.Data("trials_data", design.trials, dims="observation")
    arguments = {
        parameter: known[what] if what in known else quantity(what, model.link, eta, dispersion)
        for parameter, what in parameters.items()
    }
    y = pm.Data("y_data", design.y, dims="observation")
    if model.residual is None:
        getattr(pm, name)("y", observed=y, dims="observation", **arguments)
    else:
        respond(model, y, arguments["mu"], arguments["sigma"], _residual(model))


def _residual(model) -> Any:
    """Parameters of the residual correlation: a list, or one vector of correlations."""
    priors, repeated = model.priors.residual, model.repeated
    if "corr" not in priors:
        return [_parameter(f"residual_{p.name}", priors[p.name]) for p in repeated.parameters]
    times = len(repeated.labels)
    partial = _partial("residual_corr", "residual_pair", priors["corr"].partial_shapes(times))
    values = correlations_of(partial, times)
    return pm.Deterministic("residual_corr", values, dims="residual_pair")


def _parameter(name: str, prior) -> Any:
    """Make one parameter that is a function of a raw one, unless its prior is PyMC's own."""
    if not prior.proper or prior.is_pymcs:
        return _draw(name, prior)
    return pm.Deterministic(name, _draw(f"raw_{name}", prior))


def number(name: str, value) -> Any:
    """Hold numbers apart from the expression: another model's are read by the same machine code.

    In double precision: PyTensor would take a Python float such as 5.0 for single precision.
    """
    array = np.array(value, float)
    return shared(array, name=name, shape=array.shape)


def independent(name: str, priors, dim: str) -> Any:
    """One vector of independent parameters; priors of several kinds are put side by side."""
    kinds = {(prior.pymc[0] if prior.proper else "", prior.stated_on) for prior in priors}
    if len(kinds) == 1 and priors[0].proper and priors[0].stated_on == "value":
        each = [prior.pymc[1] for prior in priors]
        arguments = {
            key: number(f"{name} {key}", [values[key] for values in each]) for key in each[0]
        }
        return getattr(pm, priors[0].pymc[0])(name, dims=dim, **arguments)
    parts = [_draw(f"raw_{name}_{k}", prior) for k, prior in enumerate(priors)]
    return pm.Deterministic(name, pt.stack(parts), dims=dim)


def _draw(name: str, prior) -> Any:
    """Make one parameter on its own scale, by its prior on the scale where it is stated."""
    if not prior.proper:
        return _improper(name, prior)
    kind, values = prior.pymc
    held = {key: number(f"{name} {key}", value) for key, value in values.items()}
    variable = getattr(pm, kind)(name, **held)
    variable = prior.of_pymc(variable)
    return pt.sqrt(variable) if prior.stated_on == "variance" else variable


def _improper(name: str, prior) -> Any:
    """Make one parameter whose prior has only a kernel: flat on the support, and a potential."""
    low, high = prior.support
    if np.isfinite(low) or np.isfinite(high):
        distance = pm.HalfFlat(name if low == 0 else f"{name}_distance")
        value = distance if low == 0 else low + distance if np.isfinite(low) else high - distance
    else:
        value = pm.Flat(name)
    kernel: Any = prior.log_kernel(value, pt.log)
    pm.Potential(f"{name}_kernel", kernel)
    return value
