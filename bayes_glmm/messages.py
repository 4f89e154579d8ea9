"""Every notice, warning and failure of a model or a fit: a stable code and plain words.

A message says what happened, why it may have, and what to try. Codes are stable: tests,
reports and users may rely on them.
"""

from dataclasses import dataclass
from typing import Literal

Severity = Literal["note", "warning", "failure"]

# code -> (severity, what happened, why it may have, what to try); {names} are filled in
CATALOGUE: dict[str, tuple[Severity, str, str, str]] = {
    "rows-dropped": (
        "note",
        "{count} of {total} rows were dropped because of missing values ({columns}).",
        "missing='drop' was asked for.",
        "Check that the values are missing for reasons unrelated to the response.",
    ),
    "distant-origin": (
        "note",
        "The random effects {intercept} by {group} are those at {column} = 0, from which the rows "
        "are {distance:.0f} standard deviations of {column} away.",
        "Their standard deviation and their correlation with the slopes speak of rows that nobody "
        "has seen; slopes, predictions and the likelihood are those of any other origin.",
        "To read them, centre the column, for example I({column} - {middle:.6g}).",
    ),
    "distant-origin-decides": (
        "warning",
        "The random effects {intercept} by {group} are those at {column} = 0, from which the rows "
        "are {distance:.0f} standard deviations of {column} away, and there {decides} holds.",
        "What is assumed at a place that nobody has seen decides how far intercepts and slopes at "
        "the rows can vary, also the standard errors of the coefficients.",
        "Centre the column, for example I({column} - {middle:.6g}), and fit again.",
    ),
    "separation": (
        "warning",
        "{direction}.",
        "A combination of the fixed-effect columns predicts the response perfectly in part "
        "of the data, so the likelihood has no maximum in that direction.",
        "Keep a proper prior on the coefficients (the default), merge levels, or drop the "
        "column; without a prior such coefficients have no estimate, whatever number is shown, "
        "and no standard error.",
    ),
    "posterior-likely": (
        "warning",
        "That the posterior exists is likely, not proved: {rule}",
        "Improper priors were allowed, and the argument for several standard deviations is power "
        "counting.",
        "Prefer proper priors; at the least compare with HalfNormal or PC on the same parameters.",
    ),
    "random-terms-ignored": (
        "note",
        "{method} leaves out the random terms {terms}.",
        "It has no random effects; {consequence}.",
        "Compare it with a method that has them before reading its standard errors.",
    ),
    "residual-ignored": (
        "note",
        "{method} leaves out the residual correlation {residual}.",
        "It takes the rows as independent; only a cluster-robust covariance allows for it.",
        "Compare it with REML() before reading its naive standard errors.",
    ),
    "residual-correlation-at-limit": (
        "note",
        "The residual correlation is at a limit: {parameter} is {value:.3g}.",
        "The data show no such part of the correlation, or cannot tell it from the random effects "
        "and the residual variance.",
        "Fit the simpler model (without the nugget, the random effect or the correlation) and "
        "compare their log-likelihoods.",
    ),
    "other-maximum": (
        "note",
        "The likelihood has another maximum, lower by {fall:.2f}, at {where}.",
        "A random effect, a slowly decaying correlation and a nugget can stand for each other.",
        "The higher one, found from several starts, is reported.",
    ),
    "laplace-only": (
        "note",
        "Laplace approximation (one node) was used: {reason}.",
        "Quadrature with more nodes is offered for one grouping factor or two nested ones, with up "
        "to three effects together.",
        "With few or binary observations per level the Laplace SDs are biased; compare with NUTS.",
    ),
    "nodes-too-few": (
        "warning",
        "The log-likelihood still moves by {change:.1e} when the nodes are raised to {nodes}.",
        "The integrand is far from gaussian: few observations per level or a large SD.",
        "Give ML(nodes=…) more nodes, or compare with NUTS.",
    ),
    "nodes-too-costly": (
        "warning",
        "Quadrature stopped at {nodes} nodes per effect; {moved}.",
        "With so many rows, {after} nodes per effect take seconds for every evaluation.",
        "Ask for ML(nodes={after}) if the time is no matter, or compare with Laplace and NUTS.",
    ),
    "zero-variance": (
        "note",
        "The estimated standard deviation of {component} is zero, on the boundary.",
        "The data show no more variation between levels than the family alone produces.",
        "Its Wald interval does not exist; see boundary_test, the profile likelihood and the "
        "posterior.",
    ),
    "correlation-at-limit": (
        "note",
        "The estimated correlation of {component} is {value:+.0f}, at the limit.",
        "The data do not tell the effects' variation apart: few levels, few rows per level, or "
        "one effect's standard deviation near zero.",
        "Drop the correlation with (… || group) or the smaller effect, compare by anova(), or "
        "use a Bayesian fit whose prior keeps the correlation inside.",
    ),
    "dispersion-at-limit": (
        "note",
        "The dispersion is at the limit where the {family} family is the {simpler}.",
        "The responses vary no more, given the random effects, than the {simpler} produces.",
        "The estimates are those of family='{simpler}'; the dispersion has no standard error.",
    ),
    "variance-without-limit": (
        "warning",
        "The log-likelihood falls by only {fall:.2f} when all coefficients and standard "
        "deviations are doubled, so the maximum is far out and hardly determined.",
        "Most levels have responses of one kind only, or there are few rows or levels.",
        "Do not read the estimates as effects; use a Bayesian fit with proper priors, or a "
        "coarser grouping factor.",
    ),
    "variance-not-identified": (
        "warning",
        "The grouping factor {group} has one binary response per level.",
        "A binary response has no variation beyond its mean, so the standard deviation between "
        "levels shows in nothing but the scale of the coefficients: an estimate of it means "
        "nothing, and its posterior is little else than its prior.",
        "Drop the term, group the rows into coarser levels, or use counts of several trials.",
    ),
    "few-levels": (
        "note",
        "The grouping factor {group} has only {levels} levels.",
        "A variance between so few levels is hardly determined by the data, and its "
        "large-sample standard errors and tests do not hold.",
        "Take it as a fixed factor, or use a Bayesian fit and look at the prior's part in it.",
    ),
    "second-optimiser": (
        "note",
        "The first search stopped ({reason}); {optimiser} found the maximum.",
        "The surface is curved or nearly flat on the way.",
        "The maximum was verified by its gradient and Hessian: nothing needs to be done.",
    ),
    "not-converged": (
        "failure",
        "The optimiser stopped before convergence: {reason}.",
        "The surface is flat or badly scaled, the model may be richer than the data.",
        "Simplify the random part, rescale columns, or compare with NUTS.",
    ),
    "information-not-positive-definite": (
        "warning",
        "The observed information is not positive definite, so some standard errors do not exist.",
        "The likelihood is flat in some direction: a variance near zero, separation, or too "
        "few groups.",
        "Use profile intervals, or a Bayesian fit with proper priors.",
    ),
    "variances-not-told-apart": (
        "note",
        "The expected information on {parameters} variance parameters is singular, of rank {rank}.",
        "The design cannot tell some of them apart, such as a random slope and the residual with "
        "two rows in each level.",
        "Kenward & Roger's results use a generalised inverse; those that depend on what cannot be "
        "told are NaN: drop a random effect, or use REML(df='satterthwaite').",
    ),
    "few-clusters": (
        "warning",
        "There are only {clusters} clusters; the standard errors are of the {kind} covariance, "
        "their reference is {reference}.",
        "The robust covariance is an average over clusters: with few it is too small, and varies.",
        "Below 40 clusters keep the Mancl-DeRouen covariance with its t distribution (the "
        "default), and compare with the mixed model.",
    ),
    "clusters-fewer-than-coefficients": (
        "warning",
        "There are {clusters} clusters and {p} coefficients.",
        "A robust covariance has no more rank than there are clusters: none of these "
        "coefficients has a standard error to be trusted, and clusters less coefficients leave t "
        "no degrees of freedom: there are no t limits and p-values.",
        "Use fewer coefficients, a finer cluster if it is independent, or a mixed model.",
    ),
    "order-of-rows": (
        "note",
        "The order of the rows is taken as time: {corr} depends on it, and no time was named.",
        "The first row of each cluster counts as the first wave, the second as the second, "
        "whatever was measured when and whatever is missing in between.",
        "Name the column by GEE(time=…); only if every cluster's rows are sorted and complete is "
        "nothing lost without it.",
    ),
    "cluster-decides-a-coefficient": (
        "warning",
        "The {kind} covariance does not exist: a cluster has a leverage of one.",
        "One cluster alone determines a coefficient, such as that of a level which occurs in no "
        "other, so that its residual is zero whatever its responses.",
        "Merge that level or drop the column; vcov('robust') exists but takes that residual as "
        "exact.",
    ),
    "long-clusters": (
        "warning",
        "The clusters are long for their number: {clusters} clusters of {size:.0f} rows on "
        "average.",
        "The robust covariance counts clusters, not rows: there are fewer of them than there are "
        "dependences within each, and estimates of the working correlation rest on few "
        "independent pieces.",
        "Compare with the naive standard errors and with the mixed model, whose estimates use "
        "every row under its stronger assumptions.",
    ),
    "working-correlation-not-positive-definite": (
        "warning",
        "The estimated {corr} working correlation is not positive definite (alpha = {alpha}; least "
        "eigenvalue {least:.3f}).",
        "The moment estimate lies outside the range a correlation of that form can have.",
        "Use corr='independence', whose robust standard errors stay valid, or a form with fewer "
        "parameters.",
    ),
    "not-estimated": (
        "note",
        "{method} does not estimate {terms}.",
        "What is constant within the levels of {group} drops out with the levels' intercepts.",
        "Read it from a fit of the mixed model, which takes the levels' effects as unrelated to "
        "the columns.",
    ),
    "clusters-without-variation": (
        "note",
        "{dropped} of {total} levels of {group}, with {rows} of {all_rows} trials, drop out.",
        "Their responses are all alike, which says nothing about effects within a level.",
        "What is left may be a small part of the data: look at the standard errors beside those of "
        "the mixed model.",
    ),
    "divergences": (
        "warning",
        "{count} of {total} transitions diverged.",
        "The posterior has regions of strong curvature, often at a standard deviation near zero.",
        "Raise target_accept (0.95, 0.99) or use a prior that keeps away from zero.",
    ),
    "rhat-high": (
        "warning",
        "R-hat is {rhat:.3f} for {parameter}; it should be at most 1.01.",
        "The chains have not mixed: they are too short, or explore different regions.",
        "Raise tune and draws; look at the rank plots.",
    ),
    "ess-low": (
        "warning",
        "The effective sample size is {ess:.0f} for {parameter}; 100 per chain is wanted.",
        "The draws are strongly autocorrelated.",
        "Raise draws.",
    ),
    "integral-unsettled": (
        "warning",
        "Between {nodes} and {more} quadrature nodes the log posterior density still changes by "
        "{change:.2g} from draw to draw.",
        "The integrand is far from gaussian: few observations per level and a large SD.",
        "Compare with NUTS(), or give the standard deviation a prior with a lighter tail.",
    ),
    "importance-not-covered": (
        "warning",
        "The Pareto k-hat of the importance ratios is {khat:.2f}; it should be at most 0.7.",
        "The posterior has heavier tails than the proposals, or is skewed: few levels, few rows.",
        "Use Integrated(method='nuts') or NUTS().",
    ),
    "draws-thinned": (
        "note",
        "The groups {groups} hold one of every {thin} draws; the posterior holds all.",
        "They have a number for every draw and row or level, which would take gigabytes.",
        "Nothing is lost for leave-one-out or predictive checks, where some hundred draws are "
        "enough; with fewer draws asked for all are kept.",
    ),
    "default-method": (
        "note",
        "No method was given, so the posterior was sampled by {method}: {reason}.",
        "Integrated() and NUTS() sample the same posterior; the first is taken where it serves.",
        "Give a method, such as fit('nuts') or fit('ml'), to choose.",
    ),
    "bootstrap-few": (
        "warning",
        "{replicates} refits are few for {level:g} % intervals; about {wanted} are wanted.",
        "Fewer than ten refits lie beyond each limit, so the limits are uncertain themselves.",
        "Raise replicates.",
    ),
    "bootstrap-failures": (
        "warning",
        "{failed} of {total} bootstrap refits failed, most often: {reason}.",
        "Data sets simulated from the fit are harder than the data: separation, or a model that "
        "is richer than they can tell.",
        "Intervals and p-values rest on the others and may be biased; read .failures, or "
        "simplify the model.",
    ),
    "bias-likely": (
        "warning",
        "{method} is known to be biased here: {facts}, by simulations of such designs.",
        "Its expansion is poor for few binary trials or small counts within a level and a large "
        "SD; coefficients shrink with the SD, of binary responses by about half its share.",
        "Prefer ML by quadrature or a Bayesian fit; PQL(bias_correct='bootstrap') corrects it by "
        "simulation.",
    ),
    "bias-possible": (
        "note",
        "{method} may be biased here: {facts}.",
        "Its expansion is poor for few binary trials or small counts within a level and a large "
        "SD; the estimated dispersion takes up an unknown part of that.",
        "Compare with ML by quadrature or a Bayesian fit; PQL(dispersion='fixed') says how far its "
        "SD is likely to be off.",
    ),
    "sd-of-working-model": (
        "note",
        "The standard deviations are those of MQL's working model, not of effects that the "
        "coefficients are conditional on.",
        "MQL expands at the fixed part, as if the effects were small: of binary responses its SDs "
        "are far below the conditional ones, of counts with a log link above.",
        "Read the coefficients as population-averaged; for standard deviations, intraclass "
        "correlations or levels use ML or NUTS.",
    ),
}


@dataclass(frozen=True)
class Message:
    """One notice: ``code`` (stable), ``severity`` and the text in three parts."""

    code: str
    severity: Severity
    happened: str
    why: str
    remedy: str

    def __str__(self) -> str:
        """Give the whole message on one line."""
        return f"[{self.code}] {self.happened} {self.why} {self.remedy}"


def message(code: str, **facts) -> Message:
    """Fill the catalogue's text for ``code`` with the facts of the case."""
    severity, happened, why, remedy = CATALOGUE[code]
    return Message(code, severity, *(text.format(**facts) for text in (happened, why, remedy)))
