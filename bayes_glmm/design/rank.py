"""Linear dependence among columns, reported by name."""

from __future__ import annotations

import numpy as np

from .columns import DataError

# two columns whose scaled difference is below this are the same to double precision
_RANK_TOLERANCE = 1e-10


def check_rank(X: np.ndarray, names: tuple[str, ...]) -> None:
    """Raise DataError, naming the columns, when some are combinations of others."""
    zero = [name for name, column in zip(names, X.T, strict=True) if not column.any()]
    if zero:
        raise DataError(
            f"The fixed-effect column '{zero[0]}' is zero in every row, so it has no coefficient: "
            "drop the term, or combine levels that never occur together."
        )
    scaled = X / np.sqrt((X**2).sum(axis=0))
    if _independent(scaled):
        return
    kept: list[int] = []
    reports: list[str] = []
    for j in range(len(names)):
        if _independent(scaled[:, [*kept, j]]):
            kept.append(j)
            continue
        weights = np.linalg.lstsq(scaled[:, kept], scaled[:, j], rcond=None)[0]
        others = [names[k] for k, w in zip(kept, weights, strict=True) if abs(w) > 1e-7]
        reports.append(f"'{names[j]}' is a combination of {', '.join(map(repr, others))}")
    cubic = any(name.startswith(("cr(", "cs(", "cc(")) for name in names)
    spline = ", or give the cubic spline constraints='center'" if cubic else ""
    raise DataError(
        f"The {len(names)} fixed-effect columns have rank {len(kept)} in {len(X)} rows: "
        f"{'; '.join(reports[:5])}{'; …' * (len(reports) > 5)}; drop terms{spline}."
    )


def _independent(scaled: np.ndarray) -> bool:
    if scaled.shape[1] > scaled.shape[0]:
        return False
    if scaled.shape[1] == 0:
        return True
    values = np.linalg.svd(np.linalg.qr(scaled, mode="r"), compute_uv=False)
    return bool(values[-1] > _RANK_TOLERANCE * values[0])
