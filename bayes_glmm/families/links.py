r"""The links, in forms accurate for ``|eta|`` up to several hundred.

Every part returns ``(f, f', f'', f''')`` in ``eta``. Derivatives are closed forms built
from ``exp`` of a non-positive number (logit), the scaled complementary error function
(probit: Mills ratio, no ``Phi`` that underflows) and ``expm1`` (complementary log-log).
"""

from math import pi, sqrt
from typing import ClassVar

from numpy import abs, exp, expm1, inf, log, log1p, maximum, minimum, where
from scipy.special import erfc, erfcx, ndtri

from .base import Interval, Link

SQRT_HALF = sqrt(0.5)
SQRT_2_OVER_PI = sqrt(2 / pi)
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
