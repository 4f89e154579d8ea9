"""The gate before a sampler: improper priors pass only if the posterior exists."""

from ..messages import Message, message
from ..priors import ImproperPosteriorError
from .table import check_propriety


def require_posterior(model) -> tuple[Message, ...]:
    """Refuse a model whose improper priors leave no posterior, or may leave none.

    Returns
    -------
    tuple of Message
        A warning where the posterior is only likely to exist.

    Raises
    ------
    ImproperPosteriorError
        With the report of the check.
    """
    if model.priors.proper:
        return ()
    report = check_propriety(model)
    if not report.exists:
        raise ImproperPosteriorError(
            f"The model is not sampled, because its posterior is {report.verdict}: {report.rule}\n"
            f"{report.certificate + '. ' if report.certificate else ''}{report.remedy}"
        )
    if report.verdict == "proper":
        return ()
    return (message("posterior-likely", rule=report.rule),)
