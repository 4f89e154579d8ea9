"""A row of the results: one contender in one case, judged against our answer."""

from dataclasses import asdict, dataclass

from .answer import Agreement, Answer, Tolerance, agreement
from .clock import Timing


@dataclass(frozen=True)
class Row:
    """What the tables show.

    ``ratio`` is the contender's median seconds over ours, both with formula and data
    handling, ``processor_ratio`` the same of processor seconds, which other processes on the
    machine disturb less; they are given only where the answers agree. ``remark`` says why a
    number is not there, ``notes`` what the contender warned of.
    """

    case: str
    contender: str
    formula: bool = True
    seconds: float | None = None
    fastest: float | None = None
    processor: float | None = None
    runs: int = 0
    mib: float | None = None
    ratio: float | None = None
    processor_ratio: float | None = None
    agreement: Agreement | None = None
    remark: str = ""
    notes: tuple[str, ...] = ()

    def as_dict(self) -> dict:
        """Return it for JSON."""
        return asdict(self)


def judge(ours: Answer | None, peer: Answer, tolerance: Tolerance):
    """Return the agreement (or None) and a remark, which is empty where the two agree."""
    if ours is None:
        return None, "no answer of ours to check against"
    try:
        found = agreement(ours, peer)
    except ValueError as error:
        return None, f"cannot be compared: {error}"
    return found, "" if found.within(tolerance) else "the answers differ"


def quotient(one: float, other: float) -> float | None:
    """Divide, unless the clock was too coarse to see either."""
    return one / other if one and other else None


def row_of(case: str, contender, timing: Timing, ours: Timing, tolerance: Tolerance) -> Row:
    """Make the row of one contender; ``ours`` is the timing that ratios refer to."""
    if timing.failure:
        return Row(case, contender.name, contender.formula, remark=f"failed: {timing.failure}")
    found, remark = judge(ours.answer, timing.answer, tolerance)
    return Row(
        case=case,
        contender=contender.name,
        formula=contender.formula,
        seconds=timing.seconds,
        fastest=timing.fastest,
        processor=timing.processor,
        runs=len(timing.runs),
        mib=timing.mib,
        ratio=None if remark else timing.seconds / ours.seconds,
        processor_ratio=None if remark else quotient(timing.processor, ours.processor),
        agreement=found,
        remark=remark,
        notes=timing.answer.notes,
    )
