"""What the samplers of an integrated density hand back."""

from dataclasses import dataclass, field

import numpy as np


@dataclass(frozen=True, eq=False)
class Sampled:
    """Draws of the coordinates and how they were made.

    Attributes
    ----------
    xi
        ``(chains, draws, size)``.
    by_group
        Integrated log-likelihood given the other effects, without constants, of every
        ``tree.thinning``-th draw, ``(chains, kept, levels)``.
    statistics
        Of the sampler, by chain and draw.
    details
        For ``Fit.details``.
    proposals
        All importance proposals and their log ratios.
    node_checks
        Rows of the table of ``choose_nodes``, where nodes were checked meanwhile.
    others
        Effects of the factors that are not integrated out, by factor,
        ``(chains draws, levels, q)``.
    """

    xi: np.ndarray
    by_group: np.ndarray
    statistics: dict[str, np.ndarray]
    details: dict
    proposals: tuple[np.ndarray, np.ndarray] | None = None
    node_checks: list[dict] = field(default_factory=list)
    others: dict[int, np.ndarray] = field(default_factory=dict)

    @property
    def interpolated(self) -> bool:
        """Whether polynomials stood for the integrals."""
        by_importance = self.details["sampler"] == "importance"
        return by_importance and self.details["interpolation_degree"] > 0
