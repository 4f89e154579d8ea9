r"""The links, in forms accurate for ``|eta|`` up to several hundred.

Every part returns ``(f, f', f'', f''')`` in ``eta``. Derivatives are closed forms built
from ``exp`` of a non-positive number (logit), the scaled complementary error function
(probit: Mills ratio, no ``Phi`` that underflows), ``expm1`` (the two log-log links) and the
arc tangent of a reciprocal (cauchit).
"""

from math import pi, sqrt
from typing import ClassVar

from numpy import abs, arctan, exp, expm1, inf, log, log1p, maximum, minimum, tan, where
from scipy.special import erfc, erfcx, ndtri

from .base import Interval, Link

SQRT_HALF = sqrt(0.5)
SQRT_2_OVER_PI = sqrt(2 / pi)
ONE_OVER_PI = 1 / pi
HALF_PI = pi / 2
UNIT = Interval(0, 1)


class Identity(Link):
    """``g(mu) = mu``."""

    name: ClassVar = "identity"
    mean_range: ClassVar = Interval(-inf, inf)
    latex: ClassVar = "{}"

    @staticmethod
    def link(mu):
        """``eta = mu``."""
        return mu

    @staticmethod
    def inverse(eta):
        """``mu = eta``."""
        return eta, 1.0, 0.0, 0.0


class Log(Link):
    """``g(mu) = log mu``."""

    name: ClassVar = "log"
    mean_range: ClassVar = Interval(0, inf)
    latex: ClassVar = r"\log {}"

    @staticmethod
    def link(mu):
        """``eta = log mu``."""
        return log(mu)

    @staticmethod
    def inverse(eta):
        """``mu = exp(eta)``, held at exp(300) beyond, so that its square stays finite."""
        mu = exp(minimum(eta, 300.0))
        return mu, mu, mu, mu

    @staticmethod
    def log_inverse(eta):
        """``log mu = eta``."""
        return eta, 1.0, 0.0, 0.0


class Logit(Link):
    """``g(mu) = log(mu / (1 - mu))``."""

    name: ClassVar = "logit"
    mean_range: ClassVar = UNIT
    latex: ClassVar = r"\operatorname{{logit}} {}"

    @staticmethod
    def link(mu):
        """``eta = log(mu / (1 - mu))``."""
        return log(mu) - log1p(-mu)

    @staticmethod
    def inverse(eta):
        """``mu = 1 / (1 + exp(-eta))``."""
        e = exp(-abs(eta))
        mu = where(eta >= 0.0, 1.0, e) / (1.0 + e)
        nu = where(eta >= 0.0, e, 1.0) / (1.0 + e)
        v = mu * nu
        return mu, v, v * (nu - mu), v * (1.0 - 6.0 * v)

    @staticmethod
    def log_inverse(eta):
        """``log mu = -log(1 + exp(-eta))``."""
        e = exp(-abs(eta))
        mu = where(eta >= 0.0, 1.0, e) / (1.0 + e)
        nu = where(eta >= 0.0, e, 1.0) / (1.0 + e)
        v = mu * nu
        return minimum(eta, 0.0) - log1p(e), nu, -v, v * (mu - nu)

    @staticmethod
    def log_complement(eta):
        """``log(1 - mu) = -log(1 + exp(eta))``."""
        e = exp(-abs(eta))
        mu = where(eta >= 0.0, 1.0, e) / (1.0 + e)
        nu = where(eta >= 0.0, e, 1.0) / (1.0 + e)
        v = mu * nu
        return -maximum(eta, 0.0) - log1p(e), -mu, -v, v * (mu - nu)


class Probit(Link):
    """``g(mu) = Phi^{-1}(mu)``, ``Phi`` the standard normal distribution function."""

    name: ClassVar = "probit"
    mean_range: ClassVar = UNIT
    latex: ClassVar = r"\Phi^{{-1}} {}"

    @staticmethod
    def link(mu):
        """``eta = Phi^{-1}(mu)``."""
        return ndtri(mu)

    @staticmethod
    def inverse(eta):
        """``mu = Phi(eta)``."""
        density = 0.5 * SQRT_2_OVER_PI * exp(-0.5 * eta * eta)
        mu = 0.5 * erfc(-SQRT_HALF * eta)
        return mu, density, -eta * density, (eta * eta - 1.0) * density

    @staticmethod
    def log_inverse(eta):
        """``log Phi(eta)``; derivatives by the Mills ratio ``r = phi / Phi``."""
        tail = erfcx(SQRT_HALF * abs(eta))  # Phi(-|eta|) = tail exp(-eta^2 / 2) / 2
        gauss = exp(-0.5 * eta * eta)
        upper = 1.0 - 0.5 * tail * gauss
        value = where(eta < 0.0, log(0.5 * tail) - 0.5 * eta * eta, log(upper))
        r = SQRT_2_OVER_PI * where(eta < 0.0, 1.0 / tail, 0.5 * gauss / upper)
        return value, r, -r * (eta + r), r * ((eta + r) * (eta + 2.0 * r) - 1.0)

    @staticmethod
    def log_complement(eta):
        """``log Phi(-eta)``, the mirror image of ``log_inverse``."""
        tail = erfcx(SQRT_HALF * abs(eta))
        gauss = exp(-0.5 * eta * eta)
        upper = 1.0 - 0.5 * tail * gauss
        value = where(eta > 0.0, log(0.5 * tail) - 0.5 * eta * eta, log(upper))
        r = SQRT_2_OVER_PI * where(eta > 0.0, 1.0 / tail, 0.5 * gauss / upper)
        return value, -r, -r * (r - eta), -r * ((r - eta) * (2.0 * r - eta) - 1.0)


class Cloglog(Link):
    """``g(mu) = log(-log(1 - mu))``, the complementary log-log."""

    name: ClassVar = "cloglog"
    mean_range: ClassVar = UNIT
    latex: ClassVar = r"\operatorname{{cloglog}} {}"

    @staticmethod
    def link(mu):
        """``eta = log(-log(1 - mu))``."""
        return log(-log1p(-mu))

    @staticmethod
    def inverse(eta):
        """``mu = 1 - exp(-exp(eta))``; ``mu`` is 1 to double precision from eta = 4 on."""
        e = exp(minimum(eta, 300.0))
        s = e * exp(-e)
        return -expm1(-e), s, s * (1.0 - e), s * (1.0 - 3.0 * e + e * e)

    @staticmethod
    def log_inverse(eta):
        """``log mu``; derivatives by ``q = e / expm1(e)``, ``e = exp(eta)``."""
        e = exp(minimum(maximum(eta, -700.0), 300.0))
        mu = -expm1(-e)
        q = e * exp(-e) / mu
        slope = 1.0 - e - q
        second = q * slope
        # log(mu) - eta -> 0 as eta -> -inf, so the lower clip costs nothing in the value
        value = where(eta < -700.0, eta, log(mu))
        return value, q, second, second * slope - q * (e + second)

    @staticmethod
    def log_complement(eta):
        """``log(1 - mu) = -exp(eta)``, held finite beyond 700."""
        value = -exp(minimum(eta, 700.0))
        return value, value, value, value


class Loglog(Link):
    """``g(mu) = -log(-log(mu))``, the log-log: the mirror image of the complementary one."""

    name: ClassVar = "loglog"
    mean_range: ClassVar = UNIT
    latex: ClassVar = r"\operatorname{{loglog}} {}"

    @staticmethod
    def link(mu):
        """``eta = -log(-log(mu))``."""
        return -log(-log(mu))

    @staticmethod
    def inverse(eta):
        """``mu = exp(-exp(-eta))``."""
        e = exp(minimum(-eta, 300.0))
        mu = exp(-e)
        s = e * mu
        return mu, s, s * (e - 1.0), s * (1.0 - 3.0 * e + e * e)

    @staticmethod
    def log_inverse(eta):
        """``log mu = -exp(-eta)``, held finite below -700."""
        value = -exp(minimum(-eta, 700.0))
        return value, -value, value, -value

    @staticmethod
    def log_complement(eta):
        """``log(1 - mu)``; derivatives by ``q = e / expm1(e)``, ``e = exp(-eta)``."""
        e = exp(minimum(maximum(-eta, -700.0), 300.0))
        nu = -expm1(-e)
        q = e * exp(-e) / nu
        slope = 1.0 - e - q
        second = q * slope
        value = where(eta > 700.0, -eta, log(nu))
        return value, -q, second, q * (e + second) - second * slope


class Cauchit(Link):
    """``g(mu) = tan(pi (mu - 1/2))``: quantiles of the Cauchy distribution, long tails.

    The log density is not concave in the tails.
    """

    name: ClassVar = "cauchit"
    mean_range: ClassVar = UNIT
    latex: ClassVar = r"\operatorname{{cauchit}} {}"

    @staticmethod
    def link(mu):
        """``eta = tan(pi (mu - 1/2))``."""
        return tan(pi * (mu - 0.5))

    @staticmethod
    def inverse(eta):
        """``mu = 1/2 + arctan(eta) / pi``, the smaller tail by ``arctan(1 / |eta|)``."""
        size = abs(eta)
        angle = arctan(minimum(size, 1.0 / maximum(size, 1.0)))
        tail = ONE_OVER_PI * where(size > 1.0, angle, HALF_PI - angle)
        s = 1.0 / (1.0 + eta * eta)
        slope = ONE_OVER_PI * s
        return (
            where(eta < 0.0, tail, 1.0 - tail),
            slope,
            -2.0 * eta * s * slope,
            slope * s * (6.0 - 8.0 * s),
        )

    @staticmethod
    def log_inverse(eta):
        """``log mu``; derivatives by ``r = mu' / mu``."""
        size = abs(eta)
        angle = arctan(minimum(size, 1.0 / maximum(size, 1.0)))
        tail = ONE_OVER_PI * where(size > 1.0, angle, HALF_PI - angle)
        s = 1.0 / (1.0 + eta * eta)
        r = ONE_OVER_PI * s / where(eta < 0.0, tail, 1.0 - tail)
        bend = -2.0 * eta * s  # mu'' / mu'
        return (
            where(eta < 0.0, log(tail), log1p(-tail)),
            r,
            r * (bend - r),
            r * (s * (6.0 - 8.0 * s) - 3.0 * bend * r + 2.0 * r * r),
        )

    @staticmethod
    def log_complement(eta):
        """``log(1 - mu)``, the mirror image of ``log_inverse``."""
        size = abs(eta)
        angle = arctan(minimum(size, 1.0 / maximum(size, 1.0)))
        tail = ONE_OVER_PI * where(size > 1.0, angle, HALF_PI - angle)
        s = 1.0 / (1.0 + eta * eta)
        r = ONE_OVER_PI * s / where(eta > 0.0, tail, 1.0 - tail)
        bend = 2.0 * eta * s
        return (
            where(eta > 0.0, log(tail), log1p(-tail)),
            -r,
            r * (bend - r),
            -r * (s * (6.0 - 8.0 * s) - 3.0 * bend * r + 2.0 * r * r),
        )


class Sqrt(Link):
    """``g(mu) = sqrt(mu)``; ``eta`` must be positive, as in R, or two would give one mean."""

    name: ClassVar = "sqrt"
    mean_range: ClassVar = Interval(0, inf)
    latex: ClassVar = r"\sqrt{{{}}}"
    lowest: ClassVar = 0.0

    @staticmethod
    def link(mu):
        """``eta = sqrt(mu)``."""
        return mu**0.5

    @staticmethod
    def inverse(eta):
        """``mu = eta^2``."""
        return eta * eta, 2.0 * eta, 2.0, 0.0

    @staticmethod
    def log_inverse(eta):
        """``log mu = 2 log(eta)``, held finite below 1e-90."""
        eta = maximum(eta, 1e-90)
        r = 1.0 / eta
        return 2.0 * log(eta), 2.0 * r, -2.0 * r * r, 4.0 * r * r * r


class Inverse(Link):
    """``g(mu) = 1 / mu`` for positive means: ``eta`` must be positive."""

    name: ClassVar = "inverse"
    mean_range: ClassVar = Interval(0, inf)
    latex: ClassVar = r"{}^{{-1}}"
    lowest: ClassVar = 0.0

    @staticmethod
    def link(mu):
        """``eta = 1 / mu``."""
        return 1.0 / mu

    @staticmethod
    def inverse(eta):
        """``mu = 1 / eta``, held finite below 1e-70."""
        mu = 1.0 / maximum(eta, 1e-70)
        square = mu * mu
        return mu, -square, 2.0 * square * mu, -6.0 * square * square

    @staticmethod
    def log_inverse(eta):
        """``log mu = -log(eta)``, held finite below 1e-90."""
        eta = maximum(eta, 1e-90)
        r = 1.0 / eta
        return -log(eta), -r, r * r, -2.0 * r * r * r
