"""Means of responses at the values of a covariate, or in bins of it."""

import numpy as np


def binned(x: np.ndarray, most: int) -> tuple[np.ndarray, str]:
    """Centre of each row's bin, and how they were made; up to ``most`` values are their own."""
    if len(np.unique(x)) <= most:
        return x, "means at each value"
    edges = np.unique(np.quantile(x, np.linspace(0, 1, most + 1)))
    number = np.clip(np.searchsorted(edges, x, side="right") - 1, 0, len(edges) - 2)
    centers = np.array(
        [x[number == k].mean() if (number == k).any() else 0.0 for k in range(len(edges) - 1)]
    )
    return centers[number], f"means in {len(edges) - 1} bins of about equal size"


def means_at(
    center: np.ndarray, y: np.ndarray, trials: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Places, mean response per trial there, and trials."""
    places, number = np.unique(center, return_inverse=True)
    total = np.bincount(number, trials)
    return places, np.bincount(number, y) / total, total
