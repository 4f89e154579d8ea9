"""The report "When the posterior does not exist": ``python -m studies.no_posterior``.

One likelihood, many priors of the standard deviation: posteriors by quadrature and by NUTS, the
improper ones by their truncations; a Gibbs sampler that does not notice; too few clusters. It
takes some minutes, most of them the NUTS fits, and writes ``reports/no-posterior``.
"""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from arviz_stats import ess, mcse, rhat

import bayes_glmm as bg
from bayes_glmm.priors.implied import high_to_low
from bayes_glmm.report.document import (
    Bullets,
    Code,
    Document,
    Heading,
    Paragraph,
    Picture,
    Section,
    Strong,
    Table,
)
from bayes_glmm.report.folder import _replace
from bayes_glmm.report.html import write_html
from bayes_glmm.report.markdown import write_markdown

from . import figures
from .gibbs import gibbs
from .sigma import Marginal, Posterior, marginal_of

OUT = Path("reports/no-posterior")
COMMAND = "python -m studies.no_posterior"
SEED = 1
BETA = bg.Normal(0, 10)
PROPER: dict[str, Any] = {
    "Uniform(0, 40)": bg.Uniform(0, 40),
    "IG(1, 1)": bg.InverseGamma(1, 1),
    "IG(0.1, 0.1)": bg.InverseGamma(0.1, 0.1),
    "IG(0.01, 0.01)": bg.InverseGamma(0.01, 0.01),
    "IG(0.001, 0.001)": bg.InverseGamma(0.001, 0.001),
    "half-Cauchy(1)": bg.HalfCauchy(1),
    "half-Cauchy(2.5)": bg.HalfCauchy(2.5),
    "half-normal(1)": bg.HalfNormal(1),
    "exponential(1)": bg.Exponential(1),
    "PC: P(sd > 1) = .05": bg.PC(1, 0.05),
    "PC: P(sd > 3) = .05": bg.PC(3, 0.05),
    "uniform shrinkage": bg.UniformShrinkage(),
}
SHOWN = (
    "IG(1, 1)",
    "IG(0.001, 0.001)",
    "half-Cauchy(2.5)",
    "half-normal(1)",
    "PC: P(sd > 3) = .05",
)
FLOORS = (1e-1, 1e-2, 1e-3, 1e-4, 1e-6)
EPSILONS = (1.0, 0.1, 0.01, 1e-3, 1e-4, 1e-6)
CEILINGS = (3.0, 10.0, 30.0, 100.0, 1000.0)
QUANTITIES = ("mean", "median", "low", "high")


def main() -> None:
    """Compute everything and write the report."""
    _replace_all(document(), OUT)


def document(draws: int = 2500, gibbs_draws: int = 20_000) -> Document:
    """Build the report; fewer draws make a quicker, rougher one."""
    say("likelihood of the ten clusters")
    model = bg.load_model("models/ten_clusters.toml").model()
    marginal = marginal_of(model)
    sections = [
        summary(),
        one_likelihood(marginal),
        before(model),
        proper_priors(model, marginal),
        towards_zero(model, marginal),
        epsilon(marginal),
        not_noticed(model, gibbs_draws),
        too_few(),
        by_nuts(model, marginal, draws),
        provenance(),
    ]
    question = "What does a sampler sample when there is no posterior, and how would one know?"
    return Document("When the posterior does not exist", question, "", sections)


def say(text: str) -> None:
    """Announce a stage on stderr."""
    print(text, "...", file=sys.stderr, flush=True)


def _replace_all(document: Document, out: Path) -> None:
    for picture in document.pictures():
        _replace(out / "figures" / f"{picture.name}.png", picture.image.png)
    _replace(out / "report.md", write_markdown(document).encode())
    _replace(out / "index.html", write_html(document).encode())


def power(k: float, low: float = 0.0, high: float = np.inf):
    """Log density ``sigma^-k`` between two bounds, up to a constant."""
    return lambda s: np.where((s >= low) & (s <= high), -k * np.log(s), -np.inf)


def number(value: float) -> str:
    """Three decimals, or two digits where these would be zeros."""
    return f"{value:.3f}" if value >= 0.01 else f"{value:.1e}"


def row(label: str, posterior: Posterior) -> tuple:
    """Mean, median, interval of sigma, and mean and SD of beta."""
    s = posterior.summary()
    sizes = (number(s["mean"]), number(s["median"]), f"{number(s['low'])}–{number(s['high'])}")
    return (label, *sizes, f"{s['beta']:.2f}", f"{s['beta_sd']:.2f}")


COLUMNS = ("prior of the SD", "mean", "median", "95 % interval", "mean of beta", "SD of beta")
NUMERIC = frozenset(range(1, 6))


def summary() -> Section:
    """Say what the report shows."""
    points = [
        [
            Strong("A prior with infinite mass at zero leaves no posterior, whatever the data:"),
            " 1/sd on a standard deviation, 1/variance on a variance, IG(0, 0). At sd = 0 the "
            "likelihood is that of the model without the effect, which is not zero.",
        ],
        [
            Strong("A sampler does not notice."),
            " Its chains agree and R-hat is 1.00, and there is no distribution that they are "
            "draws from.",
        ],
        [
            Strong("A vague proper prior only hides it."),
            " Under IG(e, e) the posterior follows e.",
        ],
        [
            Strong("With few groups the other end fails:"),
            " a flat prior of the variance needs three groups that hold their effect, or four "
            "beside a flat intercept.",
        ],
        [
            "The package refuses such priors by name, and with ",
            Code("allow_improper=True"),
            " it samples only where ",
            Code("check_propriety"),
            " finds a posterior.",
        ],
    ]
    return Section("short", "In short", [Bullets(points)])


def one_likelihood(marginal: Marginal) -> Section:
    """Draw the likelihood of sigma."""
    top = marginal.log_likelihood.max()
    at_zero = float(np.exp(marginal.log_likelihood[0] - top))
    best = float(marginal.sigma[marginal.log_likelihood.argmax()])
    slope = float(np.gradient(marginal.log_likelihood, marginal.log_sigma)[-2])
    picture = Picture(
        "likelihood",
        figures.likelihood(marginal),
        "The likelihood of the standard deviation on a logarithmic axis: level towards zero, a "
        "low hump, then a steep fall.",
        "The likelihood of the standard deviation, the coefficient integrated out under N(0, 10²). "
        f"It is highest at {best:.2f}, and at zero still {at_zero:.2f} of that, for ever to the "
        "left.",
    )
    words = Paragraph(
        "Ten clusters of fifteen binary responses (simulated: coefficient 5, standard deviation "
        f"0.71). Far to the right the likelihood falls as the power {slope:.1f} of the standard "
        "deviation, which is what the check finds by linear programming (kappa). To the left it "
        "does not fall at all: there the prior alone must make the integral finite."
    )
    return Section("likelihood", "One likelihood", [words, picture])


def before(model) -> Section:
    """Draw what the priors say before the data."""
    ranges = {}
    for label, prior in PROPER.items():
        chosen = model.with_priors(sd=prior, beta=BETA).priors.sd["cluster"][0]
        ranges[label] = high_to_low(chosen.ppf([0.025, 0.5, 0.975]), "logit")
    picture = Picture(
        "before",
        figures.ranges(ranges),
        "For each prior, the 95 % range of the odds ratio between a high and a low cluster.",
        "What each prior says before any data: the odds of a success in a cluster at the 97.5 % "
        "quantile over those in one at the 2.5 % quantile; median and 95 % range, cut at 10⁹.",
    )
    words = Paragraph(
        "A prior of a standard deviation is a statement about how far groups are apart. Vague "
        "priors state that odds ratios of many thousands are as plausible as those of two."
    )
    return Section("before", "What a prior says before the data", [words, picture])


def proper_priors(model, marginal: Marginal) -> Section:
    """Tabulate the posteriors under proper priors."""
    posteriors = posteriors_of(model, marginal)
    rows = [row(label, found) for label, found in posteriors.items()]
    flat_sd, flat_variance = power(0.0), power(-1.0)
    rows.append(Heading("improper, but with a posterior for these data"))
    rows += [row("flat SD", marginal.posterior(flat_sd))]
    rows += [row("flat variance", marginal.posterior(flat_variance))]
    table = Table(
        COLUMNS,
        rows,
        "Posterior of the standard deviation by quadrature, for each prior, coefficient N(0, 10²). "
        "IG(a, b) is the inverse gamma on the variance.",
        NUMERIC,
    )
    picture = Picture(
        "proper",
        figures.densities({k: posteriors[k] for k in SHOWN}),
        "Posterior densities of the standard deviation under five proper priors.",
        "Five proper priors over the same likelihood. The data hold little about the standard "
        "deviation, and the lower limit of its interval is the prior's.",
    )
    return Section("proper", "Proper priors", [picture, table])


def posteriors_of(model, marginal: Marginal) -> dict[str, Posterior]:
    """Posterior under each of ``PROPER``."""
    found = {}
    for label, prior in PROPER.items():
        resolved = model.with_priors(sd=prior, beta=BETA).priors.sd["cluster"][0]
        found[label] = marginal.posterior(resolved.logpdf)
    return found


def towards_zero(model, marginal: Marginal) -> Section:
    """Truncate 1/sigma ever lower."""
    chosen = bg.Priors(sd=bg.Power(1), beta=BETA, allow_improper=True)
    report = bg.check_propriety(model.with_priors(chosen))
    found = {f"{floor:g}": marginal.posterior(power(1.0, floor)) for floor in FLOORS}
    rows = [(*row(k, p)[:4], f"{p.below(0.05):.2f}") for k, p in found.items()]
    table = Table(
        ("truncated at", "mean", "median", "95 % interval", "P(sd < 0.05)"),
        rows,
        "1/sd truncated from below. There is no limit: all mass goes to zero.",
        frozenset(range(1, 5)),
    )
    picture = Picture(
        "truncated",
        figures.spread(found, "truncated at"),
        "Posterior densities of the logarithm of the standard deviation under truncations of 1/sd.",
        "Density on the logarithmic axis. Each lower truncation adds the same mass again.",
    )
    words = Paragraph(
        [
            Code("check_propriety"),
            " says of the prior 1/sd: ",
            Strong(report.verdict),
            f". {report.rule}",
        ]
    )
    return Section("zero", "The prior 1/sd: mass runs to zero", [words, picture, table])


def epsilon(marginal: Marginal) -> Section:
    """Let IG(e, e) approach IG(0, 0)."""
    found = {f"{e:g}": marginal.posterior(bg.InverseGamma(e, e).logpdf) for e in EPSILONS}
    rows = [(*row(f"IG({k}, {k})", p)[:4], f"{p.below(0.05):.2f}") for k, p in found.items()]
    table = Table(
        ("prior of the variance", "mean", "median", "95 % interval", "P(sd < 0.05)"),
        rows,
        "Every one of these is proper, and they tend to no posterior.",
        frozenset(range(1, 5)),
    )
    picture = Picture(
        "epsilon",
        figures.spread(found, "e"),
        "Posterior densities of the logarithm of the standard deviation under IG(e, e).",
        "The left hump stands where the prior put it, near the square root of e.",
    )
    words = Paragraph(
        "IG(e, e) on the variance, long the default of WinBUGS, is proper for every e > 0 and "
        "tends to IG(0, 0) (Natarajan & McCulloch 1998 study this)."
    )
    return Section("epsilon", "IG(e, e): proper in name", [words, picture, table])


@dataclass(frozen=True, eq=False)
class Chains:
    """Draws of a Gibbs sampler of a model."""

    label: str
    sigma: np.ndarray

    def rows(self) -> list[tuple]:
        """R-hat, effective size and summary of growing stretches."""
        found = []
        for stop in (1000, 2000, 5000, self.sigma.shape[1]):
            part = self.sigma[:, stop // 5 : stop]
            low, median, high = np.quantile(part, [0.025, 0.5, 0.975])
            quality = (f"{float(rhat(part)):.3f}", f"{float(ess(part)):.0f}")
            size = (f"{part.mean():.3f}", f"{median:.3f}", f"{low:.2g}–{high:.3g}")
            found.append((f"{stop:,}", *quality, *size))
        return found


def eight_herds():
    """Take the first eight herds of cbpp, without a covariate."""
    frame = bg.load_dataset("cbpp")
    frame = frame[frame["herd"].astype(int) <= 8].copy()
    frame["herd"] = frame["herd"].cat.remove_unused_categories()
    formula = "cbind(incidence, size - incidence) ~ 1 + (1 | herd)"
    return bg.GLMM(formula, frame, family="binomial", priors=bg.Priors(intercept=BETA))


def not_noticed(model, draws: int) -> Section:
    """Run the Gibbs sampler where there is no posterior."""
    say("Gibbs sampler under 1/variance")
    herds = eight_herds()
    runs = [
        Chains("eight herds", gibbs(herds, draws, SEED)),
        Chains("ten clusters", gibbs(model, draws, SEED)),
    ]
    rows: list = []
    for run in runs:
        rows += [Heading(run.label), *run.rows()]
    table = Table(
        ("draws per chain", "R-hat", "effective size", "mean", "median", "95 % interval"),
        rows,
        "Four chains from dispersed starts, the first fifth left out.",
        frozenset(range(6)),
    )
    marginal = marginal_of(herds, lowest=np.log(1e-300))
    shares = [
        (f"{floor:.0e}", f"{found.below(0.05):.3f}", f"{found.summary()['median']:.3g}")
        for floor in (1e-3, 1e-6, 1e-12, 1e-30, 1e-60, 1e-150, 1e-300)
        for found in [marginal.posterior(power(1.0, floor))]
    ]
    truth = Table(
        ("1/sd truncated at", "P(sd < 0.05)", "median"),
        shares,
        "Eight herds: what the first thousands of draws did not see. There is no limit but zero.",
        frozenset({0, 1, 2}),
    )
    picture = Picture(
        "chains",
        figures.chains({run.label: run.sigma for run in runs}),
        "Traces of the standard deviation on a logarithmic axis, four chains in two models.",
        "Two models without a posterior. In the upper one the chains look as one would wish for "
        "thousands of draws; in the lower one they have found the way down at once.",
    )
    words = [
        Paragraph(
            "The Gibbs sampler with the prior 1/variance, in use since the early 1990s: all its "
            "full conditional distributions exist. For eight herds of cattle (the first of cbpp) "
            f"the data keep the chains away from zero for a while: after {runs[0].rows()[1][0]} "
            f"draws R-hat is {runs[0].rows()[1][1]} with {runs[0].rows()[1][2]} effective draws, "
            "and the table of estimates is ready to print."
        ),
        Paragraph(
            "For the ten clusters zero is nearer, and the chains fall at once. Which of the two "
            "one sees is a matter of the data and of the length of the run, not of whether there "
            "is a posterior: there is none in either."
        ),
    ]
    return Section("sampler", "A sampler that does not notice", [*words, picture, table, truth])


def too_few() -> Section:
    """Take two clusters only, both with zeros and ones."""
    say("two clusters")
    frame = bg.load_dataset("ten_clusters")
    mixed = frame.groupby("cluster", observed=True)["y"].mean().between(0.01, 0.99)
    frame = frame[frame["cluster"].isin(mixed.index[mixed][:2])].copy()
    frame["cluster"] = frame["cluster"].cat.remove_unused_categories()
    chosen = bg.Priors(beta=BETA, sd=bg.Power(-1), allow_improper=True)
    model = bg.GLMM("y ~ 0 + x + (1 | cluster)", frame, family="bernoulli", priors=chosen)
    report = bg.check_propriety(model)
    marginal = marginal_of(model, highest=12.0)
    found = {f"{top:g}": marginal.posterior(power(-1.0, 0.0, top)) for top in CEILINGS}
    table = Table(
        ("truncated at", "mean", "median", "95 % interval"),
        [row(k, p)[:4] for k, p in found.items()],
        "Flat prior of the variance, two clusters, truncated from above.",
        frozenset({1, 2, 3}),
    )
    picture = Picture(
        "few",
        figures.spread(found, "truncated at", lowest=0.05, highest=2000.0),
        "Posterior densities of the logarithm of the standard deviation for growing truncations.",
        "With two clusters the likelihood falls as the square of the standard deviation, and the "
        "flat variance puts back as much: every decade adds the same mass.",
    )
    words = Paragraph(
        [
            "Two of the clusters alone, with a flat prior of the variance. ",
            Code("check_propriety"),
            " says ",
            Strong(report.verdict),
            f": {report.rule} {report.remedy}",
        ]
    )
    return Section("few", "Too few clusters: mass runs to infinity", [words, picture, table])


def by_nuts(model, marginal: Marginal, draws: int) -> Section:
    """Compare NUTS with quadrature under each proper prior."""
    rows, worst = [], 0.0
    for label, posterior in posteriors_of(model, marginal).items():
        say(f"NUTS under {label}")
        found = nuts_against(model, PROPER[label], posterior, draws)
        worst = max(worst, *found.values())
        shown = (f"{found[q]:.1f}" for q in QUANTITIES)
        rows.append((label, *shown))
    table = Table(
        ("prior of the SD", "mean", "median", "2.5 % quantile", "97.5 % quantile"),
        rows,
        "Distance of NUTS from quadrature, in Monte Carlo standard errors; the largest is "
        f"{worst:.1f}.",
        frozenset(range(1, 5)),
    )
    words = Paragraph(
        f"Under each proper prior NUTS (4 chains of {draws:,} draws) and quadrature must agree."
    )
    return Section("nuts", "The same by NUTS", [words, table])


def nuts_against(model, prior, posterior: Posterior, draws: int) -> dict[str, float]:
    """Distances of NUTS from quadrature in Monte Carlo standard errors."""
    fit = model.with_priors(sd=prior, beta=BETA).fit(
        bg.NUTS(draws=draws, tune=1500, seed=SEED, target_accept=0.95)
    )
    sigma = np.asarray(fit.draws["posterior"]["sd_cluster"])[..., 0]
    exact = posterior.summary()
    low, median, high = np.quantile(sigma, [0.025, 0.5, 0.975])
    estimates = {"mean": sigma.mean(), "median": median, "low": low, "high": high}
    errors = {
        "mean": mcse(sigma, method="mean"),
        "median": mcse(sigma, method="median"),
        "low": mcse(sigma, method="quantile", prob=0.025),
        "high": mcse(sigma, method="quantile", prob=0.975),
    }
    return {q: abs(float(estimates[q] - exact[q]) / float(errors[q])) for q in QUANTITIES}


def provenance() -> Section:
    """Say how the report was made."""
    items = [
        ["Command: ", Code(COMMAND), f"; seed {SEED}; bayes_glmm {bg.__version__}."],
        [
            "Data: ",
            Code('load_dataset("ten_clusters")'),
            ", in the design of McCulloch (1997); the published data of this design are in R's "
            "package glmm.",
        ],
        "Likelihood: adaptive Gauss–Hermite quadrature, 41 nodes, the coefficient summed over a "
        "grid.",
        "Natarajan & McCulloch (1995), Biometrika; (1998), Journal of Computational and Graphical "
        "Statistics; Hobert & Casella (1996), JASA; Gelman (2006), Bayesian Analysis. The theorem "
        "behind kappa is the package's own (docs/propriety.md).",
    ]
    return Section("provenance", "How this was made", [Bullets(items)])


if __name__ == "__main__":
    main()
