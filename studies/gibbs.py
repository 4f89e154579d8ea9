r"""The Gibbs sampler of the 1990s for a logistic model: the prior of a variance is its inverse.

Every full conditional exists: ``sigma^2 | b ~ IG(q / 2, sum b^2 / 2)``, and ``beta`` and ``b``
given the rest have bounded densities, drawn here by Metropolis steps. The posterior does not:
that is the point (Natarajan & McCulloch 1995). It is not part of the package.
"""

import numpy as np


def gibbs(model, draws: int, seed: int, chains: int = 4) -> np.ndarray:
    """Draw ``sigma`` of a binomial model with one random intercept, shape (chains, draws).

    Chains start at 0.3 to 1.5.
    """
    d = model.design
    (block,) = d.groups
    rng = np.random.default_rng(seed)
    X, y, n, index, q = d.X, d.y, d.trials, block.index, block.n_levels
    beta = np.zeros((chains, d.p))
    b = np.zeros((chains, q))
    sigma = np.linspace(0.3, 1.5, chains)
    root = np.linalg.cholesky(np.linalg.inv(X.T @ (0.15 * n[:, None] * X)))
    held = np.bincount(index, weights=0.15 * n, minlength=q)  # rough information of a level
    out = np.empty((chains, draws))

    def rows(beta, b):
        eta = beta @ X.T + b[:, index]
        return y * eta - n * np.logaddexp(0.0, eta)

    now = rows(beta, b)
    for t in range(draws):
        for _ in range(2):
            proposal = beta + 1.2 * rng.standard_normal(beta.shape) @ root.T
            new = rows(proposal, b)
            accept = np.log(rng.random(chains)) < new.sum(axis=1) - now.sum(axis=1)
            beta, now = (
                np.where(accept[:, None], proposal, beta),
                np.where(accept[:, None], new, now),
            )
            step = 2.4 / np.sqrt(held + sigma[:, None] ** -2.0)
            trial = b + step * rng.standard_normal(b.shape)
            new = rows(beta, trial)
            change = np.zeros((chains, q))
            np.add.at(change.T, index, (new - now).T)
            change -= 0.5 * (trial**2 - b**2) / sigma[:, None] ** 2
            accept = np.log(rng.random(b.shape)) < change
            b = np.where(accept, trial, b)
            now = np.where(accept[:, index], new, now)
        sigma = np.sqrt(0.5 * np.sum(b**2, axis=1) / rng.gamma(0.5 * q, size=chains))
        out[:, t] = sigma
    return out
