r"""R-hat, effective sample sizes and the Pareto k-hat, as arrays in NumPy.

The formulas are those of Vehtari, Gelman, Simpson, Carpenter & Buerkner (2021) and of Vehtari,
Simpson, Gelman, Yao & Gabry (2024), whose common implementation is ArviZ; tests hold the two
equal. They are written here because importing ArviZ takes longer than a small posterior does
(``arviz_stats.base`` alone 1.0 s on top of NumPy, pandas and xarray, most of it ``scipy.stats``;
``Integrated()`` of 56 rows .3 s), and so that all parameters are worked on at once.
"""

from math import sqrt

import numpy as np
from scipy.fft import irfft, next_fast_len, rfft
from scipy.special import logsumexp, ndtri

from .pieces import available_cores, in_threads

TAILS = (0.05, 0.95)
CONSTANT = 1e-15  # a smaller range is no variation
TOGETHER = 200_000  # numbers worked on at a time
FEW = 12  # lags that are tried first; of nearly independent draws they are enough


def diagnostics(draws: np.ndarray) -> dict[str, np.ndarray]:
    """Rank-normalised split R-hat, and bulk and tail effective sample sizes.

    Parameters
    ----------
    draws
        Shape ``(chains, draws, parameters)``.

    Returns
    -------
    dict
        ``rhat``, ``ess_bulk``, ``ess_tail``, each ``(parameters,)``. Of a parameter that does
        not vary R-hat is NaN and the sizes are the number of draws.
    """
    chains, size, parameters = draws.shape
    names = ("rhat", "ess_bulk", "ess_tail")
    found = np.empty((len(names), parameters))
    step = max(1, TOGETHER // (chains * size))
    blocks = range(0, parameters, step)

    def part(first: int, last: int) -> int:
        for a in blocks[first:last]:
            found[:, a : a + step] = _diagnose(draws[:, :, a : a + step])
        return 0

    in_threads(part, len(blocks), available_cores())
    return dict(zip(names, found, strict=True))


def _diagnose(draws: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    x = np.ascontiguousarray(np.moveaxis(draws, 2, 0))  # (parameters, chains, draws)
    halves = split(x)
    bulk, ordered = normal_scores(halves)
    whole = ordered if halves.size == x.size else np.sort(x.reshape(len(x), -1), axis=1)
    middle, *limits = (
        quantile(of, q)[:, None, None] for of, q in ((ordered, 0.5), *((whole, q) for q in TAILS))
    )
    folded, _ = normal_scores(np.abs(halves - middle))
    worst = np.maximum(mixing(bulk), mixing(folded))
    tail = np.minimum(*(effective_size(split((x <= limit).astype(float))) for limit in limits))
    return worst, effective_size(bulk), tail


def quantile(ordered: np.ndarray, q: float) -> np.ndarray:
    """Quantile of each sorted row, linear between its values."""
    place = q * (ordered.shape[1] - 1)
    low = int(place)
    high = min(low + 1, ordered.shape[1] - 1)
    return ordered[:, low] + (place - low) * (ordered[:, high] - ordered[:, low])


def split(x: np.ndarray) -> np.ndarray:
    """Cut each chain in two halves."""
    half = x.shape[-1] // 2
    return np.concatenate([x[..., :half], x[..., x.shape[-1] - half :]], axis=1)


def normal_scores(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Give the normal quantiles of the ranks over all chains, and the values in order.

    Ranks of ties are averaged (Blom 1958).
    """
    flat = x.reshape(len(x), -1)
    size = flat.shape[1]
    order = np.argsort(flat, axis=1)
    ordered, scores = np.empty_like(flat), np.empty_like(flat)
    by_rank = ndtri((np.arange(1.0, size + 1.0) - 0.375) / (size + 0.25))
    # row by row: several times faster than NumPy's functions along an axis
    for k, places in enumerate(order):
        ordered[k] = flat[k][places]
        scores[k][places] = by_rank
    row, place, mean_rank = ties(ordered)
    scores[row, order[row, place]] = ndtri((mean_rank - 0.375) / (size + 0.25))
    return scores.reshape(x.shape), ordered


def ties(ordered: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rows and places of equal values in sorted rows, and their mean ranks."""
    row, place = np.nonzero(ordered[:, 1:] == ordered[:, :-1])  # equal to the next
    if not len(row):
        return row, place, np.empty(0)
    begins = np.ones(len(row), bool)
    begins[1:] = (row[1:] != row[:-1]) | (place[1:] != place[:-1] + 1)
    run = np.cumsum(begins) - 1
    first = place[begins]
    last = place[np.append(begins[1:], True)] + 1
    rank = (0.5 * (first + last) + 1.0)[run]
    return np.tile(row, 2), np.concatenate([place, place + 1]), np.tile(rank, 2)


def mixing(x: np.ndarray) -> np.ndarray:
    """R-hat: variance of all chains together over that within chains, square root."""
    size = x.shape[-1]
    between = size * np.var(x.mean(axis=2), axis=1, ddof=1)
    within = np.var(x, axis=2, ddof=1).mean(axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.sqrt((between / within + size - 1.0) / size)


def effective_size(x: np.ndarray) -> np.ndarray:
    """Effective sample size of the mean, by Geyer's initial monotone sequence.

    From the first few lags where the sequence ends there, otherwise from all.
    """
    found, ended = sequence_size(x, first_autocovariances(x))
    if not ended.all():
        found[~ended] = sequence_size(x[~ended], autocovariance(x[~ended]))[0]
    return found


def sequence_size(x: np.ndarray, covariances: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Effective sample size by autocovariances ``(parameters, chains, lags)``.

    Returns
    -------
    size, ended
        ``(parameters,)``; the second tells where the sequence ends within these lags.
    """
    parameters, chains, size = x.shape
    total = chains * size
    covariance = covariances.mean(axis=1)
    within = covariance[:, :1] * size / (size - 1.0)
    all_together = within * (size - 1.0) / size
    if chains > 1:
        all_together = all_together + np.var(x.mean(axis=2), axis=1, ddof=1)[:, None]
    with np.errstate(divide="ignore", invalid="ignore"):
        rho = 1.0 - (within - covariance) / all_together
    rho[:, 0] = 1.0
    count = max((min(size - 1, rho.shape[1])) // 2, 1)  # pairs of lags that may be used
    pairs = rho[:, : 2 * count].reshape(parameters, count, 2).sum(axis=2)
    below = pairs <= 0.0
    ended = below.any(axis=1)
    end = np.where(ended, below.argmax(axis=1), count - 1)
    monotone = np.minimum.accumulate(pairs, axis=1)
    monotone[np.arange(count) >= end[:, None]] = 0.0
    odd = np.maximum(rho[np.arange(parameters), 2 * end], 0.0)
    tau = np.maximum(-1.0 + 2.0 * monotone.sum(axis=1) + odd, 1.0 / np.log10(total))
    varies = np.ptp(x, axis=(1, 2)) >= CONSTANT
    return np.where(varies, total / tau, float(total)), ended | ~varies


def first_autocovariances(x: np.ndarray) -> np.ndarray:
    """Autocovariances of each chain at the first lags, divisor the chain's length."""
    size = x.shape[-1]
    centred = x - x.mean(axis=-1, keepdims=True)
    lags = [
        np.einsum("pcs,pcs->pc", centred[..., : size - k], centred[..., k:])
        for k in range(min(FEW, size))
    ]
    return np.stack(lags, axis=-1) / size


def autocovariance(x: np.ndarray) -> np.ndarray:
    """Autocovariances of each chain at all lags, divisor the chain's length."""
    size = x.shape[-1]
    centred = x - x.mean(axis=-1, keepdims=True)
    wide = next_fast_len(2 * size, real=True)
    transform = np.asarray(rfft(centred, wide, axis=-1))
    power = transform * np.conjugate(transform)
    return np.asarray(irfft(power, wide, axis=-1))[..., :size] / size


def pareto_k(log_ratios: np.ndarray) -> float:
    """Shape of the generalised Pareto distribution fitted to the largest importance ratios.

    Above .7 the ratios' mean is not to be trusted; NaN where their tail does not vary.
    """
    size = len(log_ratios)
    count = int(3.0 * sqrt(size) if size > 225 else size / 5)
    order = np.sort(log_ratios)
    order = order - order[-1]
    tail, cutoff = order[-count:], max(order[-count - 1], np.log(np.finfo(float).tiny))
    tail = tail[tail > cutoff]
    if len(tail) <= 4 or np.ptp(tail) < CONSTANT:
        return np.nan
    return pareto_shape(np.exp(tail) - np.exp(cutoff))


def pareto_shape(x: np.ndarray) -> float:
    """Shape of a generalised Pareto distribution, ``x`` sorted (Zhang & Stephens 2009).

    A posterior mean, with a prior worth ten observations at .5.
    """
    size, grid = len(x), 30 + int(sqrt(len(x)))
    quartile = x[int(size / 4 + 0.5) - 1]
    if quartile <= x[0]:
        return np.nan
    b = 1 - np.sqrt(grid / (np.arange(1, grid + 1) - 0.5))
    b = b / (3 * quartile) + 1 / x[-1]
    k = np.log1p(-b[:, None] * x).mean(axis=1)
    profile = size * (np.log(-b / k) - k - 1)
    weight = np.exp(profile - logsumexp(profile))
    kept = weight >= 10 * np.finfo(float).eps
    best = np.sum(b[kept] * weight[kept]) / weight[kept].sum()
    shape = np.log1p(-best * x).mean()
    return float((size * shape + 5.0) / (size + 10.0))
