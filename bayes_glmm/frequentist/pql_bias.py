"""Where penalised quasi-likelihood is known to be biased, and by how much."""

from collections.abc import Iterator

import numpy as np

from ..fit import Component
from .working_model import WorkingFit

# the expansion is poor where a level carries little information and effects are large
LITTLE_INFORMATION, LARGE_SD = 4.0, 0.5


def bias_facts(
    model, working: WorkingFit, components: tuple[Component, ...], estimate: np.ndarray
) -> Iterator[str]:
    """Describe the effects whose levels carry little information for their size.

    The information of a level is the sum of its working weights, the curvature of its
    log-likelihood: the expansion around the mode takes that for a normal one.
    """
    if model.family.has_dispersion and model.link.name == "identity":
        return
    sd = {(c.group, c.term): x for c, x in zip(components, estimate, strict=True) if c.kind == "sd"}
    for g in model.design.groups:
        for column, term in zip(g.Z.T, g.columns, strict=True):
            size = sd[g.group, term] * np.sqrt(np.mean(column**2))
            level = np.bincount(g.index, working.weight * column**2) / np.mean(column**2)
            information = float(np.median(level))
            if information < LITTLE_INFORMATION and size > LARGE_SD:
                yield (
                    f"{model.family.name} responses, a median of "
                    f"{np.median(np.bincount(g.index)):g} rows and of information "
                    f"{information:.2g} per level of {g.group}, and a standard deviation of "
                    f"{sd[g.group, term]:.2f} for {term}"
                )
