"""Which families the quasi-likelihood methods serve: those whose dispersion is a factor."""

from ..methods import NotServedError


def refuse_dispersion(family, label: str, instead: str = "") -> None:
    """Refuse a family whose variance depends on its dispersion otherwise than by a factor.

    Quasi-likelihood knows a variance function of the mean and a free factor: the gaussian and
    gamma families' dispersion, and 1 for those that have none.

    ``instead`` names an option that serves.

    Raises
    ------
    NotServedError
        Naming what serves.
    """
    if family.has_dispersion and not family.dispersion_is_scale:
        kin = "binomial" if family.has_trials else "poisson"
        raise NotServedError(
            f"{label} got family={family.name!r}, whose dispersion is not a factor of the "
            f"variance, which is all that quasi-likelihood can estimate: use "
            f"{f'{instead}, ' if instead else ''}ML() or NUTS(), or family={kin!r}."
        )
