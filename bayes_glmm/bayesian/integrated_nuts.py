"""NUTS on an integrated density, run by nutpie in whitened variables."""

import os
from collections.abc import Callable

import numpy as np
import nutpie
from nutpie.compiled_pyfunc import from_pyfunc

from .density import IntegratedDensity, log_density
from .importance import Proposal
from .interpolation import Exact
from .sampled import Sampled
from .tree import thinning
from .whitening import Whitening, whiten_coordinates

STATISTICS = ("diverging", "depth", "n_steps", "step_size", "mean_tree_accept", "energy", "logp")


def run(make_density: Callable, whitening: Whitening, method, stream) -> tuple[np.ndarray, dict]:
    """Sample the unknowns by NUTS in the variables ``z`` of ``whitening``.

    Parameters
    ----------
    make_density
        Gives a function ``x -> (log density, gradient)``; one for each chain, which have
        states of their own.
    whitening
        From ``z`` to the unknowns.
    method
        An ``Integrated``.
    stream
        Seed sequence.

    Returns
    -------
    x, statistics
        Draws ``(chains, draws, d)``, and nutpie's statistics by chain and draw.
    """
    d = len(whitening.centre)

    def make_log_density():
        density = make_density()

        def log_density(z):
            value, gradient = density(whitening.unknowns(z))
            if not np.isfinite(value):  # the sampler takes it for a divergence
                return -np.inf, np.zeros(d)
            return value, whitening.gradient(gradient)

        return log_density

    sampler = from_pyfunc(
        ndim=d,
        make_logp_fn=make_log_density,
        make_expand_fn=lambda *seeds: lambda z: {"z": np.asarray(z, float)},
        expanded_dtypes=[np.dtype("float64")],
        expanded_shapes=[(d,)],
        expanded_names=["z"],
        make_initial_point_fn=lambda seed: np.random.default_rng(seed).normal(0.0, 0.5, d),
    )
    raw = nutpie.sample(
        sampler,
        draws=method.draws,
        tune=method.tune,
        chains=method.chains,
        cores=min(method.chains, os.cpu_count() or 1),
        seed=int(stream.spawn(1)[0].generate_state(1)[0]),
        target_accept=method.target_accept,
        save_warmup=False,
        progress_bar=False,
    )
    z = raw["posterior"]["z"].to_numpy()
    held = raw["sample_stats"]
    return whitening.unknowns(z), {name: held[name].to_numpy() for name in STATISTICS}


def by_nuts(density: IntegratedDensity, method, around: Proposal, stream) -> Sampled:
    """Sample the coordinates of an integrated density, from the centre of a proposal."""
    mode, covariance = around.centre, around.covariance
    density(mode)  # modes to start from
    nodes, modes = density.nodes, density.integral.modes.copy()

    def make():
        own = IntegratedDensity(density.model, nodes)
        own.integral.modes[:] = modes
        return own

    x, statistics = run(make, whiten_coordinates(mode, covariance), method, stream)
    levels = density.factors[density.largest].levels
    held = x[:, :: thinning(x.shape[0] * x.shape[1], levels)]
    density(mode)
    _, by_group = log_density(density, held.reshape(-1, x.shape[-1]))
    return Sampled(
        xi=x,
        by_group=by_group.reshape(*held.shape[:2], levels),
        statistics=statistics,
        details={"sampler": "nuts", **Exact(density).details},
    )
