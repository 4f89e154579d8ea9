r"""The rising factorial, by which the overdispersed families differ from those they extend.

.. math:: R(a, y) = \log\frac{\Gamma(a + y)}{\Gamma(a)\,a^y} = \sum_{k=0}^{y-1} \log(1 + k/a)

for whole ``y >= 0``. It vanishes as ``a`` grows, so that a negative binomial or beta-binomial
density is written as that of its limit plus terms of ``R``, with nothing left to cancel.

The functions have bare names only, as in the links.
"""

from numpy import exp, log, log1p, maximum, minimum, where

DIRECT = 8.0  # terms summed one by one; what is left has arguments large enough for Stirling


def stirling(z):
    """``log Gamma(z)`` less ``(z - 1/2) log z - z + log(2 pi) / 2``; 1e-15 for ``z >= 8``."""
    i = 1.0 / z
    t = i * i
    p = 0.00641025641025641 - t * 0.02955065359477124
    p = 0.0008417508417508417 + t * (t * p - 0.0019175269175269176)
    p = 0.0007936507936507937 + t * (t * p - 0.0005952380952380953)
    return i * (0.08333333333333333 + t * (t * p - 0.002777777777777778))


def stirling_slopes(w, z):
    """Remainders of ``a psi(z), a^2 psi'(z), a^3 psi''(z)``, ``w = a / z``, as of ``stirling``.

    Less ``a log z - w / 2``, ``a w + w^2 / 2`` and ``-(a w^2 + w^3)``: the asymptotic series
    in Bernoulli numbers, eight terms.
    """
    i = 1.0 / z
    t = i * i
    p = 0.08333333333333333 - t * 0.4432598039215686
    p = 0.007575757575757576 + t * (t * p - 0.021092796092796094)
    p = 0.003968253968253968 + t * (t * p - 0.004166666666666667)
    first = -w * i * (0.08333333333333333 + t * (t * p - 0.008333333333333333))
    p = 1.1666666666666667 - t * 7.092156862745098
    p = 0.07575757575757576 + t * (t * p - 0.2531135531135531)
    p = 0.023809523809523808 + t * (t * p - 0.03333333333333333)
    second = w * w * i * (0.16666666666666666 + t * (t * p - 0.03333333333333333))
    p = 17.5 - t * 120.56666666666666
    p = 0.8333333333333334 + t * (t * p - 3.2904761904761903)
    p = 0.16666666666666666 + t * (t * p - 0.3)
    third = -w * w * w * i * (0.5 + t * (t * p - 0.16666666666666666))
    return first, second, third


def add_term(k, a, scale, y, product, first, second, third):
    """Add the term ``k < y`` of ``R`` (as a factor of ``product``) and of its derivatives."""
    g = a / (a + k)
    q = k / (a + k)
    inside = where(k < y, 1.0, 0.0)
    product = product * where(k < y, (a + k) * scale, 1.0)
    turn = inside * q * g
    return product, first - inside * q, second + turn, third + turn * (q - g)


def rising(log_a, y):
    r"""``R(a, y)`` and its first three derivatives in ``log a``.

    Parameters
    ----------
    log_a
        Logarithm of ``a > 0``.
    y
        Whole numbers, not negative.

    Notes
    -----
    Terms up to ``k = 7`` are summed, the others are differences of Stirling's series at
    ``a + 8`` and ``a + y``. Absolute errors are of the order of ``1e-16 y`` (tested against
    50-digit values), whatever ``a``.
    """
    log_a = minimum(log_a, 300.0)
    a = exp(log_a)
    # products of (a + k) / max(a, 1) neither overflow nor underflow
    above = maximum(log_a, 0.0)
    scale = 1.0 / maximum(a, 1.0)
    terms = 1.0, 0.0, 0.0, 0.0
    terms = add_term(1.0, a, scale, y, *terms)
    terms = add_term(2.0, a, scale, y, *terms)
    terms = add_term(3.0, a, scale, y, *terms)
    terms = add_term(4.0, a, scale, y, *terms)
    terms = add_term(5.0, a, scale, y, *terms)
    terms = add_term(6.0, a, scale, y, *terms)
    product, first, second, third = add_term(7.0, a, scale, y, *terms)
    counted = maximum(minimum(y, DIRECT) - 1.0, 0.0)
    value = log(product) - counted * (log_a - above)

    u = maximum(y - DIRECT, 0.0)  # terms that are left: all below vanishes with u
    b = a + DIRECT
    end = b + u
    p = a / b
    q = a / end
    grown = log1p(u / b)
    value = value + (end - 0.5) * grown - u + u * (log(b * scale) - (log_a - above))
    value = value + stirling(end) - stirling(b)
    at_b = stirling_slopes(p, b)
    at_end = stirling_slopes(q, end)
    first_order = a * grown + 0.5 * (p - q) + (at_end[0] - at_b[0])
    second_order = 0.5 * (q - p) * (q + p) - p * q * u + (at_end[1] - at_b[1])
    third_order = p * q * u * (p + q) + (p - q) * (p * p + p * q + q * q) + (at_end[2] - at_b[2])
    return (
        value,
        first + first_order - u,
        second + first_order + second_order,
        third + first_order + 3.0 * second_order + third_order,
    )
