"""Draws under the contract's names: the one home of variables, dims and coords.

``beta`` (term), ``sd_<group>`` (<group>_term), ``corr_<group>`` (<group>_pair), ``b_<group>``
(<group>, <group>_term), ``residual_<parameter>``, ``dispersion``; under a joint prior ``r2`` and
``phi`` (component);
population-averaged coefficients are ``beta_pa``, so that no plot lays them over ``beta``.
"""

import numpy as np
import xarray as xr

from .fit import datatree_name, variables_of

CHAINS, DRAWS = 4, 1000


def dims_and_coords(model, beta: str = "beta") -> tuple[dict[str, list[str]], dict[str, list]]:
    """Dims of every variable (without chain and draw) and the labels along them."""
    design = model.design
    dims, coords = {beta: ["term"]}, {"term": list(design.terms)}
    for g in design.groups:
        dims[f"sd_{g.group}"] = [f"{g.group}_term"]
        dims[f"b_{g.group}"] = [g.group, f"{g.group}_term"]
        coords[g.group] = list(g.levels)
        coords[f"{g.group}_term"] = list(g.columns)
        if g.pairs:
            dims[f"corr_{g.group}"] = [f"{g.group}_pair"]
            coords[f"{g.group}_pair"] = list(g.pair_names)
    if model.repeated is not None:
        coords |= residual_coords(model)
        for parameter in model.repeated.parameters:
            dims[f"residual_{parameter.name}"] = ["residual_pair"] if parameter.pair else []
    if model.family.has_dispersion:
        dims["dispersion"] = []
    if (joint := model.priors.joint) is not None:
        dims |= {"r2": [], "phi": ["component"]}
        coords["component"] = list(joint.components)
    return dims, coords


def coords_of(design) -> dict[str, list]:
    """Coordinates of every dim, as the contract names them."""
    index = design.frame.index
    unique = index.is_unique and index.nlevels == 1
    coords = {
        "term": list(design.terms),
        "observation": index.to_list() if unique else list(range(design.n)),
    }
    for block in design.groups:
        coords[block.group] = list(block.levels)
        coords[f"{block.group}_term"] = list(block.columns)
        if block.pairs:
            coords[f"{block.group}_pair"] = list(block.pair_names)
    return coords


def residual_coords(model) -> dict[str, list]:
    """Pairs of times whose residual correlations are parameters; nothing for other models."""
    parameters = () if model.repeated is None else model.repeated.parameters
    pairs = [parameter.pair for parameter in parameters if parameter.pair]
    return {"residual_pair": pairs} if pairs else {}


def dataset(model, draws: dict[str, np.ndarray], beta: str = "beta") -> xr.Dataset:
    """Label arrays of shape ``(chains, draws, …)`` as one group of a DataTree."""
    dims, coords = dims_and_coords(model, beta)
    variables = {k: (["chain", "draw", *dims[k]], v) for k, v in draws.items()}
    used = {d for k in draws for d in dims[k]}
    return numbered(xr.Dataset(variables, {k: v for k, v in coords.items() if k in used}))


def numbered(data: xr.Dataset) -> xr.Dataset:
    """Give chains and draws numbers where they have none: ArviZ tells them apart by these."""
    missing = {d for d in ("chain", "draw") if d in data.dims} - set(data.coords)
    return data.assign_coords({d: np.arange(data.sizes[d]) for d in missing})


def draws_of(fit) -> dict[str, np.ndarray]:
    """Posterior draws of coefficients and variance components, shape (chains, draws), by name.

    The names are ``fit.parameter_names``, in their order.
    """
    posterior = fit.draws["posterior"]
    columns = []
    for name in ("beta", *variables_of(fit.model)):
        array = np.asarray(posterior[name])
        flat = array.reshape(*array.shape[:2], int(np.prod(array.shape[2:])))
        columns += list(np.moveaxis(flat, 2, 0))
    return dict(zip(fit.parameter_names, columns, strict=True))


def asymptotic_datatree(fit, seed: int = 1) -> xr.DataTree:
    """Draw from the asymptotic normal distribution of a fit without draws.

    Coefficients, log SDs, atanh correlations and the log dispersion are jointly normal with
    ``fit.joint_cov``; a variance parameter on the boundary stays at its estimate, and a
    coefficient without a standard error is NaN. Group effects are normal around their modes,
    given the parameters. 4 chains of 1,000 independent draws.
    """
    rng = np.random.default_rng(fit.method.stream(seed))
    beta = "beta" if fit.estimand == "conditional" else "beta_pa"
    draws = _parameters(fit, rng, beta)
    for group, e in fit.effects.items():
        noise = rng.standard_normal((CHAINS, DRAWS, *e.estimate.shape))
        draws[f"b_{group}"] = e.estimate + noise * e.sd
    tree = xr.DataTree.from_dict({"posterior": dataset(fit.model, draws, beta)})
    tree.attrs.update(kind="asymptotic", method=fit.label, seed=seed)
    tree["posterior"].attrs.update(kind="asymptotic")
    return tree


def _parameters(fit, rng, beta: str) -> dict[str, np.ndarray]:
    """Draw coefficients and variance components, each variable with its own shape."""
    p = len(fit.beta)
    components = () if fit.variance is None else fit.variance.components
    estimate = np.zeros(0) if fit.variance is None else fit.variance.estimate
    with np.errstate(divide="ignore"):  # the log of an SD on the boundary is -inf
        centre = [c.scale.working(x) for c, x in zip(components, estimate, strict=True)]
    covariance = fit.joint_cov if fit.joint_cov is not None else np.asarray(fit.vcov())
    moves = np.isfinite(np.diag(covariance))
    noise = np.zeros((CHAINS, DRAWS, p + len(components)))
    free = np.flatnonzero(moves)
    noise[..., free] = rng.multivariate_normal(
        np.zeros(len(free)), covariance[np.ix_(free, free)], (CHAINS, DRAWS)
    )
    noise[..., np.flatnonzero(~moves[:p])] = np.nan
    moved = np.array(centre, float) + noise[..., p:]
    natural = np.empty_like(moved)
    for i, c in enumerate(components):
        natural[..., i] = c.scale.natural(moved[..., i])
    draws = {beta: fit.beta + noise[..., :p]}
    for name in dict.fromkeys(_variable(c) for c in components):
        members = [i for i, c in enumerate(components) if _variable(c) == name]
        scalar = [datatree_name(components[i]) for i in members] == [name]
        draws[name] = natural[..., members[0]] if scalar else natural[..., members]
    return draws


def _variable(c) -> str:
    """Name of the variable that holds a component."""
    return datatree_name(c).split("[")[0]
