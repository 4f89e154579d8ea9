r"""Known covariance ``A`` between the levels of a factor, as its inverse.

The effects are :math:`b = (I \otimes \Lambda) v`, :math:`v \sim N(0, A \otimes I)`. Where ``A`` is
that of a pedigree its inverse is sparse: only parents, offspring and mates meet in it (Henderson
1976, *Biometrics* 32).
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import sparse

from .schur import POTRF, POTRI

ROUNDING = 10.0  # entries of the inverse below this many rounding errors are zero


@dataclass(frozen=True, eq=False)
class Relationship:
    """The inverse of a covariance between levels.

    Attributes
    ----------
    precision
        ``A^{-1}``, sparse, shape ``(levels, levels)``.
    log_det
        ``log|A|``.
    """

    precision: Any
    log_det: float

    @classmethod
    def of(cls, A: np.ndarray) -> "Relationship":
        """Invert ``A``; what is rounding error of a zero entry is left out.

        Raises
        ------
        numpy.linalg.LinAlgError
            If it is not positive definite.
        """
        root, info = POTRF(A, lower=1, clean=0)
        if info:
            raise np.linalg.LinAlgError("the covariance between levels is not positive definite")
        inverse = np.tril(POTRI(root, lower=1)[0])
        inverse += np.tril(inverse, -1).T
        size = np.sqrt(np.diag(inverse))
        # the error of an inverse is that of its condition number
        condition = np.abs(A).sum(axis=0).max() * np.abs(inverse).sum(axis=0).max()
        least = ROUNDING * np.finfo(float).eps * condition
        kept = np.where(np.abs(inverse) > least * np.outer(size, size), inverse, 0.0)
        return cls(sparse.csr_array(kept), 2.0 * float(np.log(np.diag(root)).sum()))
