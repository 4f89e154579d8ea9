"""One posterior in a process of its own: ``python -m benchmarks.sampler bambi cbpp``.

Writes a JSON line when the first fit is done, and another after a second fit in the same
process with the next seed.
"""

import argparse
import json
import os
import re
import sys
import time
import warnings
from collections import defaultdict
from functools import partial

import numpy as np

SD_MEAN = 2.5  # prior mean of the standard deviations
LONG = 60.0  # seconds of a fit that is not repeated


def settings() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "package", choices=["bayes_glmm", "bayes_glmm-integrated", "bambi", "bambi-nutpie"]
    )
    parser.add_argument("data")
    parser.add_argument("--draws", type=int, default=1000)
    parser.add_argument("--tune", type=int, default=1000)
    parser.add_argument("--chains", type=int, default=4)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--again", action="store_true", help="fit a second time")
    return parser.parse_args()


def model_of(problem, data):
    """Give the model with priors that every package can state: exponential ones of the SDs."""
    import bayes_glmm as bg

    priors = bg.Priors(sd=bg.Exponential(1.0 / SD_MEAN))
    return bg.GLMM(problem.formula, data, family=problem.family, priors=priors)


def sample_ours(problem, data, options, seed, integrated=False):
    """Sample with bayes_glmm; return draws by parameter and the sampler's statistics.

    ``Integrated`` has no warm-up where importance proposals serve.
    """
    import bayes_glmm as bg

    size = {"draws": options.draws, "chains": options.chains, "seed": seed}
    method = bg.Integrated(**size) if integrated else bg.NUTS(tune=options.tune, **size)
    tree = model_of(problem, data).fit(method).to_datatree()
    posterior = tree["posterior"]
    draws = by_level("", posterior["beta"])
    for group in problem.groups:
        draws[f"sd {group}"] = posterior[f"sd_{group}"].values[..., 0]
    return draws, tree["sample_stats"]


def sample_bambi(problem, data, options, seed, sampler="pymc"):
    """Sample with Bambi under our priors, on all cores; same return.

    Its default sampler is PyMC's own, on half of the cores.
    """
    import bambi

    from benchmarks.frames import factors

    response = "p(incidence, size)" if problem.grouped else problem.response
    formula = problem.formula.replace(problem.response, response, 1)
    # Bambi sorts the levels of factors that are not ordered, and so changes the reference level
    data = data.assign(**{name: data[name].cat.as_ordered() for name in factors(data)})
    model = bambi.Model(formula, data, family=problem.family, priors=bambi_priors(problem, data))
    tree = model.fit(
        draws=options.draws,
        tune=options.tune,
        chains=options.chains,
        cores=os.cpu_count(),
        random_seed=seed,
        inference_method=sampler,
        progressbar=False,
    )
    posterior = tree["posterior"]
    draws = {}
    for name in posterior.data_vars:
        if name.endswith("_sigma"):
            draws[f"sd {name.split('|')[1].removesuffix('_sigma')}"] = posterior[name].values
        elif "|" not in name:
            draws |= by_level(name, posterior[name], factors(data))
    return draws, tree["sample_stats"]


def by_level(prefix, array, levels=None):
    """Split an array of draws by its last coordinate, under canonical names."""
    from benchmarks.answer import canonical

    if array.ndim == 2:
        return {canonical(prefix): array.values}
    names = [str(level) for level in array[array.dims[-1]].values]
    if prefix:
        names = [with_level(prefix, name, levels) for name in names]
    return {canonical(name): array.values[..., i] for i, name in enumerate(names)}


def with_level(term: str, level: str, levels) -> str:
    """Name a coefficient of Bambi's, whose coordinate has the factors' levels only."""
    values = iter(level.split(","))
    return ":".join(
        f"{name}[{next(values).strip()}]" if name in levels else name for name in term.split(":")
    )


def bambi_priors(problem, data) -> dict:
    """Give Bambi the priors that our model resolved, so that both sample one posterior."""
    import bambi

    model = model_of(problem, data)
    by_term = defaultdict(list)
    for name, prior in zip(model.design.terms, model.priors.beta, strict=True):
        by_term[re.sub(r"\[.*?\]", "", name)].append(prior.pymc)
    priors = {}
    for term, parts in by_term.items():
        names = {name for name, _ in parts}
        values = {key: np.array([part[key] for _, part in parts]) for key in parts[0][1]}
        if len(parts) == 1:
            values = {key: value.item() for key, value in values.items()}
        priors[term] = bambi.Prior(names.pop(), **values)
    for group, (prior,) in model.priors.sd.items():
        name, values = prior.pymc
        priors[f"1|{group}"] = bambi.Prior("Normal", mu=0, sigma=bambi.Prior(name, **values))
    return priors


def summary(draws, stats, seconds: float) -> dict:
    """Reduce draws to what the benchmark compares, with ArviZ's bulk ESS and R-hat."""
    from arviz_stats.base import array_stats

    axes = {"chain_axis": 0, "draw_axis": 1}
    return {
        "fit_seconds": seconds,
        "mean": {name: float(x.mean()) for name, x in draws.items()},
        "sd": {name: float(x.std()) for name, x in draws.items()},
        "ess": min(float(array_stats.ess(x, method="bulk", **axes)) for x in draws.values()),
        "rhat": max(float(array_stats.rhat(x, **axes)) for x in draws.values()),
        "divergences": int(stats["diverging"].sum()) if "diverging" in stats else 0,
    }


def peak_mib() -> float | None:
    """Return the peak memory of this process, or None where the system does not say."""
    try:
        import resource
    except ImportError:  # Windows
        return None
    unit = 2**20 if sys.platform == "darwin" else 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit


def main() -> None:
    """Fit once or twice and report on standard output."""
    warnings.simplefilter("ignore")
    options = settings()
    from .cases import posteriors
    from .frames import frame

    problem = next(p for p in posteriors(quick=False) if p.data == options.data)
    sample = {
        "bayes_glmm": sample_ours,
        "bayes_glmm-integrated": partial(sample_ours, integrated=True),
        "bambi": sample_bambi,
        "bambi-nutpie": partial(sample_bambi, sampler="nutpie"),
    }[options.package]
    for seed in (options.seed, options.seed + 1)[: 1 + options.again]:
        start = time.perf_counter()
        draws, stats = sample(problem, frame(problem.data), options, seed)
        seconds = time.perf_counter() - start
        print("@@" + json.dumps({"done": True}), flush=True)  # the parent's clock stops here
        print("@@" + json.dumps(summary(draws, stats, seconds) | {"mib": peak_mib()}), flush=True)
        if seconds > LONG:
            break


if __name__ == "__main__":
    main()
