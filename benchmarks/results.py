"""The results as tables: written once, for the terminal and for Markdown."""

from .answer import Agreement
from .rows import Row
from .sampling import Sampled

COLUMNS = ("contender", "median s", "least s", "runs", "ratio", "CPU ratio", "MiB", "agreement")
SAMPLED_COLUMNS = (
    "package",
    "cold s",
    "warm s",
    "again s",
    "least ESS",
    "ESS/s warm",
    "ESS/s again",
    "ratio",
    "MiB",
    "agreement",
)


def number(value: float | None, digits: int = 3) -> str:
    """Write a number to so many significant digits, or nothing."""
    if value is None:
        return ""
    if value == 0:
        return "0"
    if abs(value) >= 10 ** (digits - 1):
        return f"{value:,.0f}"
    return f"{value:.{digits}g}"


def how_far(found: Agreement | None) -> str:
    """Write the largest differences of two answers; one digit says it."""
    if found is None:
        return ""
    parts = [
        ("estimates", found.beta, " SE"),
        ("SE", found.se, ""),
        ("SD", found.sd, ""),
        ("loglik", found.loglik, ""),
    ]
    if not any(value for _, value, _ in parts):
        return "equal"
    return ", ".join(
        f"{name} {value:.0e}{unit}" if value else f"{name} 0"
        for name, value, unit in parts
        if value is not None
    )


def cells(row: Row) -> list[str]:
    """Write one row of a case's table."""
    return [
        row.contender,
        number(row.seconds),
        number(row.fastest),
        str(row.runs or ""),
        number(row.ratio),
        number(row.processor_ratio),
        number(row.mib, 2),
        "; ".join(filter(None, [row.remark, how_far(row.agreement), *row.notes])),
    ]


def sampled_cells(row: Sampled, ours: Sampled) -> list[str]:
    """Write one row of a posterior's table; the ratio is ours over theirs in ESS/s warm."""
    agree = row.difference is not None and not row.remark
    ratio = ours.rate / row.rate if agree and ours.rate and row.rate else None
    agreement = [row.remark]
    if row.difference is not None:
        agreement.append(f"means within {row.difference:.2f} SD")
    if row.rhat is not None:
        agreement.append(f"R-hat {row.rhat:.3f}, {row.divergences} divergences")
    return [
        row.package,
        *map(number, (row.cold, row.warm, row.again, row.ess, row.rate, row.rate_again)),
        number(ratio),
        number(row.mib),
        "; ".join(filter(None, agreement)),
    ]
