"""On what the timings were made: processor, cores, versions; no names or paths."""

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

PYTHON_PACKAGES = (
    "bayes_glmm",
    "bambi",
    "glmm",
    "statsmodels",
    "numpy",
    "scipy",
    "numba",
    "pymc",
    "pytensor",
    "nutpie",
)
R_PACKAGES = ("lme4", "glmmTMB", "MASS", "nlme", "gee", "geepack", "rstanarm", "brms", "rstan")


def processor() -> str:
    """Return the processor's model name."""
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def python_versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that matter here."""
    found = {"Python": platform.python_version()}
    for package in PYTHON_PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def r_versions() -> dict[str, str]:
    """Return the versions of R and of the peers that it has."""
    from .r_session import RSession, have_r

    if not have_r():
        return {}
    session = RSession()
    try:
        pairs = [(package, session.package_version(package)) for package in R_PACKAGES]
        return {"R": session.version} | {package: v for package, v in pairs if v}
    finally:
        session.close()


def describe(threads: int) -> dict:
    """Describe the machine and the software for the results."""
    return {
        "processor": processor(),
        "cores": os.cpu_count(),
        "system": platform.system(),
        "threads": threads,
        "versions": python_versions() | r_versions(),
    }
