"""What a standard deviation means: how far two groups are apart, and how alike two responses.

A high group is at the 97.5 % quantile of the distribution of the groups, a low one at the 2.5 %
quantile: they are ``2 * 1.96`` standard deviations apart.
"""

import numpy as np

APART = 3.919927969080108  # between the 2.5 % and 97.5 % quantiles of a standard normal
# residual variance of the latent variable of a threshold model: logistic, normal, Gumbel
LATENT = {"logit": np.pi**2 / 3, "probit": 1.0, "cloglog": np.pi**2 / 6, "loglog": np.pi**2 / 6}
# what exp of a difference between two groups is a ratio of
RATIOS = {"logit": "odds ratio", "log": "ratio of means", "cloglog": "hazard ratio"}


def high_to_low(sd, link: str):
    """Odds ratio (logit), ratio of means (log) or of hazards (cloglog) of a high to a low group.

    NaN for other links.
    """
    sd = np.asarray(sd, float)
    with np.errstate(over="ignore"):
        return np.exp(APART * sd) if link in RATIOS else np.full(sd.shape, np.nan)


def intraclass(sd, link: str):
    """Correlation of the latent variables of two responses of one group; NaN for other links."""
    variance = np.square(np.asarray(sd, float))
    if link not in LATENT:
        return np.full(variance.shape, np.nan)
    return 1.0 / (1.0 + LATENT[link] / np.maximum(variance, 1e-300))


def in_words(low: float, high: float, link: str, intercept: bool) -> str:
    """``odds ratio of a high to a low group 1.4 to 5e+05, ICC 0.0022 to 0.77``."""
    parts = []
    if link in RATIOS:
        a, b = high_to_low([low, high], link)
        parts.append(f"{RATIOS[link]} of a high to a low group {a:.3g} to {b:.2g}")
    if link in LATENT and intercept:
        a, b = intraclass([low, high], link)
        parts.append(f"ICC {a:.2g} to {b:.2g}")
    return ", ".join(parts)
