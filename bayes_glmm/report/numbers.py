"""Numbers as people read them: digits that the standard error supports, true minus signs."""

from math import floor, isfinite, log10

MINUS, THIN, TIMES = "\N{MINUS SIGN}", "\N{NARROW NO-BREAK SPACE}", "\N{MULTIPLICATION SIGN}"
ABSENT = "\N{EN DASH}"
_SUPERSCRIPT = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def decimals_for(error: float | None, value: float = 0.0) -> int:
    """Decimals at which the error has two significant digits; three of the value without one."""
    if error is not None and isfinite(error) and error > 0:
        return min(max(1 - floor(log10(error)), 0), 8)
    if isfinite(value) and value != 0:
        return min(max(2 - floor(log10(abs(value))), 0), 8)
    return 2


def fixed(value: float | None, decimals: int) -> str:
    """Write with that many decimals, a true minus, thin spaces between thousands."""
    if value is None or value != value:
        return ABSENT
    if not isfinite(value):
        return f"{MINUS}∞" if value < 0 else "∞"
    if abs(value) >= 1e7:
        return significant(value)
    text = f"{value:,.{decimals}f}".replace(",", THIN)
    if text.startswith("-"):
        text = text[1:] if float(text[1:].replace(THIN, "")) == 0 else MINUS + text[1:]
    return text


def significant(value: float | None, digits: int = 2) -> str:
    """Write with that many significant digits; powers of ten when far from one."""
    if value is None or value != value:
        return ABSENT
    if value == 0 or not isfinite(value):
        return fixed(value, 0)
    exponent = floor(log10(abs(float(f"{value:.{digits - 1}e}"))))
    if -4 <= exponent < 6:
        decimals = digits - 1 - exponent
        return fixed(round(value, decimals), max(decimals, 0))
    mantissa = fixed(value / 10.0**exponent, digits - 1)
    return f"{mantissa}{THIN}{TIMES}{THIN}10{str(exponent).translate(_SUPERSCRIPT)}"


def power_of_ten(value: float) -> str:
    """Write a power of ten as it stands on an axis: ``10⁻⁵``."""
    return f"10{str(round(log10(value))).translate(_SUPERSCRIPT)}"


def with_error(estimate: float, error: float | None) -> tuple[str, str]:
    """Estimate and standard error at the digits the error supports."""
    decimals = decimals_for(error, estimate)
    return fixed(estimate, decimals), fixed(error, decimals)


def interval(low: float, high: float, decimals: int) -> str:
    """``low to high``, absent where there is none."""
    if low != low or high != high:
        return ABSENT
    return f"{fixed(low, decimals)} to {fixed(high, decimals)}"


def ratio_interval(low: float, high: float) -> str:
    """``low to high`` for ratios: two significant digits each."""
    return f"{significant(low)} to {significant(high)}"


def p_value(p: float) -> str:
    """``p = 0.031``, ``p < 10⁻¹⁰``."""
    if p != p:
        return "p unknown"
    return "p < 10⁻¹⁰" if p < 1e-10 else f"p = {significant(p)}"


def percent(share: float) -> str:
    """Write a share in per cent, without decimals above one per cent."""
    shown = 100 * share
    return f"{shown:.0f}{THIN}%" if shown >= 1 or shown == 0 else f"{shown:.1g}{THIN}%"


def duration(seconds: float) -> str:
    """Wall-clock time: two digits below a minute, minutes and seconds above."""
    if seconds >= 60:
        return f"{int(seconds // 60)}{THIN}min {int(seconds % 60)}{THIN}s"
    if seconds < 0.01:
        return f"< 0.01{THIN}s"
    return f"{significant(seconds)}{THIN}s"


def count(number: int, singular: str, plural: str | None = None) -> str:
    """``1 row``, ``1 234 rows``."""
    noun = singular if number == 1 else plural or f"{singular}s"
    return f"{fixed(number, 0)} {noun}"


def listing(items: list[str]) -> str:
    """Write ``a``, ``a and b``, ``a, b and c``."""
    return " and ".join([", ".join(items[:-1]), items[-1]] if len(items) > 1 else items)
