"""The groups of a posterior's DataTree, under the contract's names.

Log-likelihood, log prior and predictive draws come from the package's own families and
priors in NumPy, which tests hold equal to PyMC's; PyMC's own keys are the free variables of
the graph, and differ from the contract's.
"""

from collections.abc import Sequence
from importlib.metadata import version

import numpy as np
import xarray as xr

from ..datatree import coords_of, dataset, dims_and_coords, numbered
from ..numerics.bind import bind_numba, bind_numpy
from ..numerics.pieces import available_cores, in_threads
from ..priors.correlations import pairs
from .arrangement import Arrangement, log_density, simulate, values_of

PRIOR_DRAWS = 2000
MANY = 100_000  # densities from which a second thread pays
TOGETHER = 8_192  # densities worked on at a time
HELD = 25_000_000  # numbers of a pointwise group, 200 MB; draws are thinned to that


def posterior_tree(model, draws: dict[str, np.ndarray], stats: xr.Dataset, rng) -> xr.DataTree:
    """Gather everything known after sampling.

    Parameters
    ----------
    model
        The GLMM.
    draws
        Variable -> draws, shape (chains, draws, …), the contract's names.
    stats
        The sampler's statistics.
    rng
        Generator for predictive and prior draws.

    With residual correlation the log-likelihood of a row is that given the earlier rows of its
    cluster, and says so in its attribute ``given``.

    Returns
    -------
    DataTree
        Groups posterior, sample_stats, log_likelihood, log_prior, posterior_predictive,
        prior (where every prior is proper), observed_data and constant_data; rows in the
        user's order. Groups by row hold every ``thinning``-th draw.
    """
    design = model.design.in_user_order()
    chains, size = draws["beta"].shape[:2]
    thin = thinning(chains * size, design.n)
    some = {name: values[:, ::thin] for name, values in draws.items()}
    log_likelihood, replicated = predictive(model, design, some, rng)
    observation = {"observation": coords_of(design)["observation"]}

    def by_row(values) -> xr.Dataset:
        return pointwise("observation", observation["observation"], values, size, thin)

    groups = {
        "posterior": dataset(model, draws),
        "sample_stats": stats,
        "log_likelihood": by_row(log_likelihood),
        "log_prior": log_prior(model, draws),
        "posterior_predictive": by_row(replicated),
        "observed_data": xr.Dataset({"y": ("observation", design.y)}, coords=observation),
        "constant_data": constants(model, design),
    }
    if model.residual is not None:
        groups["log_likelihood"].attrs["given"] = f"earlier rows of the same {model.residual.by}"
    if model.priors.proper:
        groups["prior"] = dataset(model, prior_draws(model, rng))
    return xr.DataTree.from_dict({name: numbered(group) for name, group in groups.items()})


def sign(tree: xr.DataTree, method, packages: Sequence[str]) -> None:
    """Say in the attributes of a posterior how it was made, and by which versions."""
    versions = ", ".join(f"{name} {version(name)}" for name in packages)
    tree.attrs.update(kind="posterior", method=repr(method), seed=method.seed, versions=versions)


def thinning(draws: int, points: int) -> int:
    """Of how many draws one is kept where there is a number for every draw and point."""
    return -(-draws * points // HELD) if points else 1


def pointwise(dim: str, labels, values: np.ndarray, size: int, thin: int) -> xr.Dataset:
    """Label numbers ``(chains, kept draws, points)`` of every ``thin``-th of ``size`` draws."""
    coords = {dim: labels} | ({"draw": np.arange(size)[::thin]} if thin > 1 else {})
    found = xr.Dataset({"y": (("chain", "draw", dim), values)}, coords, {"thinning": thin})
    return numbered(found)


def linear_predictor(design, beta, effects) -> np.ndarray:
    """``X beta + Z b + offset`` of each draw, shape (draws, n), link scale.

    Parameters
    ----------
    design
        The design, its rows in the order wanted.
    beta
        Shape (draws, p).
    effects
        For each group, ``b`` of shape (draws, levels, columns).
    """
    eta = beta @ design.X.T + design.offset
    for block, b in zip(design.groups, effects, strict=True):
        for k in range(block.q):
            eta += block.Z[:, k] * b[:, block.index, k]
    return eta


def predictive(model, design, draws, rng) -> tuple[np.ndarray, np.ndarray]:
    """Log-likelihood and a replicated response for every draw, both (chains, draws, n).

    Chains run in threads, each with a random stream of its own.
    """
    bound = bind_numpy(model.family, model.link)
    correlated = Arrangement.of(model) if model.residual is not None else None
    chains, size = draws["beta"].shape[:2]
    log_likelihood, replicated = np.empty((2, chains, size, design.n))
    streams = rng.spawn(chains)
    step = max(1, TOGETHER // design.n)

    def run(chain: int) -> None:
        for a in range(0, size, step):  # a few draws at a time: they stay in the cache
            at = chain, slice(a, a + step)
            effects = [draws[f"b_{block.group}"][at] for block in design.groups]
            eta = linear_predictor(design, draws["beta"][at], effects)
            dispersion = draws["dispersion"][at][:, None] if "dispersion" in draws else 1.0
            if correlated is not None:
                values, scale = values_of(model, draws)[at], draws["dispersion"][at]
                found = _correlated(
                    correlated, design.y, bound.mean(eta), values, scale, streams[chain]
                )
                log_likelihood[at], replicated[at] = found
                continue
            log_likelihood[at] = log_densities(model, design, eta, dispersion)
            replicated[at] = model.family.simulate(
                streams[chain], bound.mean(eta), design.trials, dispersion
            )

    def part(first: int, last: int) -> int:
        for chain in range(first, last):
            run(chain)
        return 0

    in_threads(part, chains, available_cores() if log_likelihood.size > MANY else 1)
    return log_likelihood, replicated


def _correlated(arrangement, y, mean, values, dispersion, rng) -> tuple[np.ndarray, np.ndarray]:
    """Log density of each row given the earlier ones of its cluster, and replicates, (draws, n)."""
    log_likelihood, replicated = np.empty_like(mean), np.empty_like(mean)
    for d, scale in enumerate(dispersion):
        held = arrangement.correlations(values[d]), arrangement.arrays
        log_likelihood[d] = log_density(y - mean[d], scale, *held)
        replicated[d] = mean[d] + simulate(rng, scale, *held)
    return log_likelihood, replicated


def log_densities(model, design, eta, dispersion) -> np.ndarray:
    """``log f(y | eta)`` of each draw and row, all constants included, ``(draws, n)``.

    By the compiled family, which is several times faster than its NumPy form.
    """
    score = bind_numba(model.family, model.link).score
    y, trials = (np.array(a, float) for a in (design.y, design.trials))  # writable
    phi = np.broadcast_to(dispersion, (len(eta), 1))[:, 0]
    eta = np.ascontiguousarray(eta)
    found, out = np.empty_like(eta), np.empty((2, design.n))
    for d in range(len(eta)):
        score(y, trials, eta[d], phi[d], 0, design.n, out)
        found[d] = out[0]
    scale = model.family.log_scale(y, trials, dispersion)[0]
    return found + scale + model.family.log_base(y, trials)


def log_prior(model, draws) -> xr.Dataset:
    """Log prior density of every draw, by variable; of a correlation matrix one number.

    Scale: the density of the coefficient, the standard deviation, the correlation matrix. A
    prior of the whole covariance matrix is one number, ``covariance_<group>``: the density of
    the SDs and correlations together.
    """
    priors = model.priors
    found = {"beta": _each(priors.beta, draws["beta"])} if priors.joint is None else {}
    dims, _ = dims_and_coords(model)
    if priors.joint is not None:
        found |= _joint(priors, draws)
        dims["phi"] = []
    for block in model.design.groups:
        if (matrix := priors.covariance[block.group]) is not None:
            name = f"covariance_{block.group}"
            R = correlation_matrices(block, draws)
            found[name] = matrix.logpdf_of_parts(draws[f"sd_{block.group}"], R)
            dims[name] = []
            continue
        if priors.joint is None:  # else they follow from r2 and phi
            name = f"sd_{block.group}"
            found[name] = _each(priors.sd[block.group], draws[name])
        if block.pairs:
            name = f"corr_{block.group}"
            found[name] = _correlations(block, priors.corr[block.group], draws[name])
            dims[name] = []
    for parameter, prior in priors.residual.items():
        name = f"residual_{parameter}"
        if parameter == "corr":
            found[name], dims[name] = prior.logpdf(_residual_matrices(model, draws[name])), []
        else:
            found[name] = prior.logpdf(draws[name])
    if "dispersion" in draws:
        found["dispersion"] = priors.dispersion.logpdf(draws["dispersion"])
    return xr.Dataset({k: (["chain", "draw", *dims[k]], v) for k, v in found.items()})


def _joint(priors, draws) -> dict[str, np.ndarray]:
    """Log densities of ``r2``, of ``phi`` as one number, and of the coefficients given both."""
    joint = priors.joint
    dispersion = draws["dispersion"][..., None] if "dispersion" in draws else 1.0
    r2 = draws["r2"][..., None]
    scales = joint.scales(r2 / (1.0 - r2) * draws["phi"], dispersion)
    beta = np.empty(draws["beta"].shape)
    for k, prior in enumerate(priors.beta):
        beta[..., k] = 0.0 if k in joint.coefficients else prior.logpdf(draws["beta"][..., k])
    for component, k in enumerate(joint.coefficients):
        sd = scales[..., component]
        z = draws["beta"][..., k] / sd
        beta[..., k] = -0.5 * z * z - np.log(sd) - 0.5 * np.log(2.0 * np.pi)
    shares = joint.prior.log_density_of_shares(draws["phi"])
    return {"r2": joint.prior.logpdf(draws["r2"]), "phi": shares, "beta": beta}


def _each(priors, draws: np.ndarray) -> np.ndarray:
    """Log density element by element of the last axis."""
    columns = [prior.logpdf(draws[..., k]) for k, prior in enumerate(priors)]
    return np.stack(columns, axis=-1) if columns else np.zeros(draws.shape)


def _correlations(block, prior, draws: np.ndarray) -> np.ndarray:
    """Sum over the correlated sets of a group; ``draws`` (chains, draws, pairs)."""
    matrix = correlation_matrices(block, {f"corr_{block.group}": draws})
    total = np.zeros(draws.shape[:-1])
    for columns in map(list, block.blocks):
        total += prior.logpdf(matrix[..., columns, :][..., columns])
    return total


def _residual_matrices(model, values) -> np.ndarray:
    """Correlation matrices of all times, shape (chains, draws, times, times)."""
    times = len(model.repeated.labels)
    matrix = np.zeros((*values.shape[:-1], times, times)) + np.eye(times)
    for k, (i, j) in enumerate(pairs(times)):
        matrix[..., i, j] = matrix[..., j, i] = values[..., k]
    return matrix


def correlation_matrices(block, draws) -> np.ndarray:
    """Correlation matrices of a group's effects, shape (chains, draws, q, q)."""
    values = draws[f"corr_{block.group}"]
    matrix = np.zeros((*values.shape[:-1], block.q, block.q))
    matrix[...] = np.eye(block.q)
    for k, (i, j) in enumerate(block.pairs):
        matrix[..., i, j] = matrix[..., j, i] = values[..., k]
    return matrix


def prior_draws(model, rng, size: int = PRIOR_DRAWS) -> dict[str, np.ndarray]:
    """Draw coefficients, SDs, correlations and the dispersion from their priors, one chain."""
    priors, shape = model.priors, (1, size)

    def vector(each):
        return np.stack([prior.rvs(rng, shape) for prior in each], axis=-1)

    if priors.joint is not None:
        found = _joint_draws(priors, rng, shape)
    else:
        found = {"beta": vector(priors.beta)} if priors.beta else {}
    for block in model.design.groups:
        if (matrix := priors.covariance[block.group]) is not None:
            D = matrix.rvs(rng, size, block.q)
            sd = np.sqrt(np.diagonal(D, axis1=1, axis2=2))
            i, j = np.array(block.pairs).T
            found[f"sd_{block.group}"] = sd[None]
            found[f"corr_{block.group}"] = (D[:, i, j] / (sd[:, i] * sd[:, j]))[None]
            continue
        if priors.joint is None:
            found[f"sd_{block.group}"] = vector(priors.sd[block.group])
        if block.pairs:
            found[f"corr_{block.group}"] = np.empty((1, size, len(block.pairs)))
            at = {pair: k for k, pair in enumerate(block.pairs)}
            for columns in (c for c in block.blocks if len(c) > 1):
                drawn = priors.corr[block.group].rvs(rng, size, len(columns))
                for i, j in pairs(len(columns)):
                    k = at[columns[i], columns[j]]
                    found[f"corr_{block.group}"][0, :, k] = drawn[:, i, j]
    for name, prior in priors.residual.items():
        if name == "corr":
            drawn = prior.rvs(rng, size, len(model.repeated.labels))
            i, j = np.array(pairs(drawn.shape[-1])).T
            found["residual_corr"] = drawn[:, i, j][None]
        else:
            found[f"residual_{name}"] = prior.rvs(rng, shape)
    if priors.dispersion is not None and "dispersion" not in found:
        found["dispersion"] = priors.dispersion.rvs(rng, shape)
    return found


def _joint_draws(priors, rng, shape) -> dict[str, np.ndarray]:
    """Draw ``r2``, ``phi``, the dispersion, coefficients and SDs under a joint prior."""
    joint = priors.joint
    found = {"r2": joint.prior.rvs(rng, shape), "phi": joint.shares(rng, shape)}
    dispersion: np.ndarray | float = 1.0
    if priors.dispersion is not None:
        found["dispersion"] = priors.dispersion.rvs(rng, shape)
        dispersion = found["dispersion"][..., None]
    r2 = found["r2"][..., None]
    scales = joint.scales(r2 / (1.0 - r2) * found["phi"], dispersion)
    if priors.beta:
        found["beta"] = np.empty((*shape, len(priors.beta)))
        for k, prior in enumerate(priors.beta):
            if k not in joint.coefficients:
                found["beta"][..., k] = prior.rvs(rng, shape)
        at = list(joint.coefficients)
        found["beta"][..., at] = scales[..., : len(at)] * rng.standard_normal((*shape, len(at)))
    return found | {f"sd_{group}": scales[..., at] for group, at in joint.effects.items()}


def constants(model, design) -> xr.Dataset:
    """Columns, offset, trials and the level of each row, as the graph's containers hold them."""
    values: dict[str, tuple] = {"X_data": (("observation", "term"), design.X)}
    if design.formula.offsets:
        values["offset_data"] = ("observation", design.offset)
    if "trials" in model.family.pymc[1].values():
        values["trials_data"] = ("observation", design.trials)
    for block in design.groups:
        values[f"index_{block.group}"] = ("observation", block.index)
    coords = coords_of(design)
    return xr.Dataset(values, coords={k: coords[k] for k in ("observation", "term")})
