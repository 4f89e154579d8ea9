r"""Means over a population: the inverse link averaged over a normal linear predictor.

.. math:: m(\eta, v) = E\,g^{-1}(\eta + \sqrt v\,Z), \qquad Z \sim N(0, 1).

One dimension serves any number of random effects, because ``z'b`` is normal with variance
``v = z'Dz``. With derivatives :math:`\partial m/\partial\eta = E\,(g^{-1})'` and
:math:`\partial m/\partial v = E\,(g^{-1})''/2` (integrate by parts).

Exact for identity (:math:`\eta`), log (:math:`e^{\eta + v/2}`) and probit
(:math:`\Phi(\eta/\sqrt{1 + v})`); otherwise the trapezoidal rule on the whole line. For an
integrand that is analytic in a strip of half-width ``a`` around it, the rule with step ``h``
errs by the order of :math:`\exp(a^2/2 - 2\pi a/h)` (Trefethen & Weideman 2014, theorem 5.1; the
first term is the growth of the normal density off the line). An inverse link with its first
singularity at the distance ``s`` leaves ``a = s/\sqrt v``, so that nodes grow in proportion
to the SD. Gauss-Hermite nodes would have to grow with its square.
"""

import numpy as np
from scipy.special import ndtr

REACH = 8.3  # SDs: the normal tail beyond is 1e-16
DIGITS = 32.0  # exp(-32) = 1e-14
MOST_NODES = 8192  # serves SDs up to about 300 in full; beyond, the error stays below 1e-3
CHUNK = 256  # values worked on at a time, at all nodes: they stay in the second-level cache
# half-width of the strip in which an inverse link is analytic and of the order of one: poles at
# +-i pi (logit) and +-i (cauchit), kept at a tenth's distance; exp(-exp(x + iy)) stays bounded
# for |y| <= pi / 2
STRIP = {
    "logit": 0.9 * np.pi,
    "cloglog": np.pi / 2,
    "loglog": np.pi / 2,
    "cauchit": 0.9,
}


def population_mean(link, eta, variance) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Average the inverse link over a normal linear predictor.

    Parameters
    ----------
    link
        With ``name`` and ``inverse``.
    eta, variance
        Mean and variance of the linear predictor, of one broadcast shape.

    Returns
    -------
    mean, by_eta, by_variance
        ``m`` and its derivatives, each of that shape.

    Raises
    ------
    ValueError
        If the predictor varies and the link has no mean on part of the line (sqrt, inverse).
    """
    eta, variance = np.broadcast_arrays(np.asarray(eta, float), np.asarray(variance, float))
    if link.name in CLOSED:
        return CLOSED[link.name](eta, variance)
    if link.name not in STRIP:
        if np.any(variance > 0):
            raise ValueError(
                f"The link {link.name!r} got a normal linear predictor and has a mean on part of "
                "the line only: use a link that is defined everywhere, such as 'log'."
            )
        mean, slope, bend, _ = link.inverse(eta)
        return mean, slope, 0.5 * bend + np.zeros_like(eta)
    out = np.empty((3, eta.size))
    flat, sd = eta.ravel(), np.sqrt(variance).ravel()
    for start in range(0, eta.size, CHUNK):
        part = slice(start, start + CHUNK)
        out[:, part] = _average(link, flat[part], sd[part])
    mean, slope, bend = out.reshape(3, *eta.shape)
    return mean, slope, 0.5 * bend


def nodes_for(strip: float, sd: float) -> tuple[np.ndarray, np.ndarray]:
    """Nodes and weights (they sum to one) for a standard normal times ``sd``."""
    a = min(strip / max(sd, 1e-300), np.sqrt(2 * DIGITS))
    step = 2 * np.pi * a / (DIGITS + a * a / 2)
    half = min(int(np.ceil(REACH / step)), MOST_NODES // 2)
    z = np.linspace(-REACH, REACH, 2 * half + 1)
    w = np.exp(-0.5 * z * z)
    return z, w / w.sum()


def _average(link, eta, sd) -> np.ndarray:
    """Mean, slope and bend of the inverse link at ``eta + sd Z``, shape ``(3, n)``."""
    z, w = nodes_for(STRIP[link.name], sd.max())
    mean, slope, bend, _ = link.inverse(eta[:, None] + sd[:, None] * z)
    return np.array([mean @ w, slope @ w, bend @ w])


def _identity(eta, variance):
    return eta.copy(), np.ones_like(eta), np.zeros_like(eta)


def _log(eta, variance):
    mean = np.exp(np.minimum(eta + variance / 2, 300.0))
    return mean, mean, mean / 2


def _probit(eta, variance):
    root = np.sqrt(1.0 + variance)
    t = eta / root
    slope = np.exp(-0.5 * t * t) / (np.sqrt(2 * np.pi) * root)
    return ndtr(t), slope, -0.5 * t * slope / root


CLOSED = {"identity": _identity, "log": _log, "probit": _probit}
