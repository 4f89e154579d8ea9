r"""Gaussian responses whose rows are correlated within clusters, in the PyMC graph and in NumPy.

.. math:: y \mid \eta \sim N(\mu, \sigma^2 R(\alpha)), \qquad
   \log p(y) = \sum_j \log N(w_j; 0, \sigma^2) - \log L_{jj}, \quad w = L^{-1}(y - \mu)

The term of a row is its log density given the earlier rows of its cluster
(``numerics.innovations``), so that the terms add up to the log density of all. The correlations of
the distinct distances are formulas of the parameters (``residual.between``); what follows them, the
Cholesky factors of the distinct patterns of times, is one operation of PyTensor whose machine code
serves every model. Where rounding leaves a matrix that is not positive definite there is no
density: minus infinity, which a sampler takes for a divergence.
"""

from dataclasses import dataclass
from hashlib import sha256
from inspect import getsource
from typing import Any

import numba
import numpy as np
import pytensor.tensor as pt
from pymc.distributions.distribution import Distribution
from pytensor.compile.sharedvalue import shared
from pytensor.gradient import DisconnectedType, disconnected_type
from pytensor.graph.basic import Apply
from pytensor.graph.op import Op
from pytensor.link.numba.dispatch.basic import register_funcify_default_op_cache_key
from pytensor.link.numba.dispatch.random import numba_core_rv_funcify
from pytensor.tensor.random.op import RandomVariable

from ..frequentist.lmm_search import rows_of
from ..numerics import innovations as kernels
from ..numerics.correlated_rows import AlikeClusters

LOG_2PI = float(np.log(2.0 * np.pi))
SOURCE = int(sha256(getsource(kernels).encode()).hexdigest()[:12], 16)


@dataclass(frozen=True, eq=False)
class Arrangement:
    """Clusters and distances of a model's rows, in the user's order.

    Attributes
    ----------
    correlation
        The residual correlation.
    patterns
        Clusters that share a correlation matrix.
    distance
        Distinct distances of two rows of a cluster, which correlations are functions of.
    place
        Which of them each pair of rows has, as ``numerics.innovations`` takes it.
    """

    correlation: Any
    patterns: list[AlikeClusters]
    distance: np.ndarray
    place: np.ndarray

    @classmethod
    def of(cls, model) -> "Arrangement":
        """Arrange the rows of a model with residual correlation."""
        repeated, order = model.repeated, model.design.order
        kind, count = repeated.correlation, len(repeated.parameters)
        patterns = [AlikeClusters(order[p.rows], p.geometry) for p in rows_of(repeated).patterns]
        matrices = [kind.distances(p.geometry, count) for p in patterns]
        between = np.concatenate([D[np.tril_indices(len(D), -1)] for D in matrices])
        distance, place = np.unique(between, return_inverse=True)
        return cls(kind, patterns, distance, place.ravel().astype(np.int64))

    @property
    def arrays(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """What the kernels take last: ``size, place, rows``."""
        size = np.array([p.rows.shape[::-1] for p in self.patterns], np.int64)
        rows = np.concatenate([p.rows.ravel() for p in self.patterns])
        return size, self.place, rows.astype(np.int64)

    def correlations(self, values) -> np.ndarray:
        """Correlations of the distinct distances at the values of the parameters."""
        return np.asarray(self.correlation.between(values, self.distance), float)

    def information(self, values: np.ndarray, block, weights: np.ndarray) -> np.ndarray:
        """``Z' W^1/2 R^-1 W^1/2 Z`` of each level of a grouping factor, (levels, q, q).

        What couples the levels that rows of one cluster are in is left out.
        """
        found = np.zeros((block.n_levels, block.q, block.q))
        weighted = np.sqrt(weights)[:, None] * block.Z
        for p in self.patterns:
            inverse = np.linalg.inv(self.correlation.correlation(values, p.geometry))
            level, Z = block.index[p.rows], weighted[p.rows]
            same = (level[:, :, None] == level[:, None, :]) * inverse
            np.add.at(found, level, np.einsum("cja,cjk,ckb->cjab", Z, same, Z))
        return found


def usual_values(model) -> np.ndarray:
    """Values of the parameters that their priors, or else the data's times, make usual."""
    repeated, priors = model.repeated, model.priors.residual
    if not all(prior.proper for prior in priors.values()):
        return repeated.correlation.starts(repeated.gap, np.arange(float(len(repeated.labels))))[0]
    if "corr" in priors:
        return np.zeros(len(repeated.parameters))
    return np.array([float(priors[p.name].ppf(0.5)) for p in repeated.parameters])


def values_of(model, draws) -> np.ndarray:
    """Parameters of the residual correlation of each draw, shape (…, parameters)."""
    parts = {name: np.asarray(draws[f"residual_{name}"]) for name in model.priors.residual}
    return parts["corr"] if "corr" in parts else np.stack(list(parts.values()), axis=-1)


# ---- in NumPy


def log_density(residuals, scale: float, correlations, arrays) -> np.ndarray:
    """Log density of each row given the earlier ones of its cluster, ``(n,)``.

    Parameters
    ----------
    residuals
        ``y - mu``, ``(n,)``.
    scale
        Residual SD.
    correlations, arrays
        Of an ``Arrangement``.
    """
    white, log_scale = kernels.innovations(correlations, residuals, *arrays)
    return _normal(white / scale, log_scale + np.log(scale))


def _normal(z, log_scale):
    return -0.5 * z * z - log_scale - 0.5 * LOG_2PI


def simulate(rng: np.random.Generator, scale: float, correlations, arrays) -> np.ndarray:
    """Draw residuals, ``(n,)``."""
    noise = rng.standard_normal(len(arrays[2]))
    return scale * kernels.correlate(correlations, noise, *arrays)


# ---- in PyTensor


class Innovations(Op):
    """``innovations`` as an operation: correlations and residuals to ``w`` and ``log L_jj``."""

    __props__ = ()

    def make_node(self, *inputs):
        """Both outputs have a number for every row."""
        inputs = [pt.as_tensor_variable(x) for x in inputs]
        return Apply(self, inputs, [inputs[1].type(), inputs[1].type()])

    def perform(self, node, inputs, output_storage):
        """Run the kernel."""
        _store(output_storage, kernels.innovations(*_contiguous(inputs)))

    def infer_shape(self, fgraph, node, shapes):
        """See ``make_node``."""
        return [shapes[1], shapes[1]]

    def pullback(self, inputs, outputs, cotangents):
        """See ``pull_back``; the arrangement of the rows has no derivative."""
        values, _, *arrays = inputs
        by = [_given(c, x) for c, x in zip(cotangents, outputs, strict=True)]
        found = _pull_back(values, outputs[0], *by, *arrays)
        return [*found, *(disconnected_type() for _ in arrays)]

    def connection_pattern(self, node):
        """Outputs depend on the arrangement, but not smoothly."""
        return [[k < 2] * 2 for k in range(len(node.inputs))]


class PullBack(Op):
    """``pull_back`` as an operation."""

    __props__ = ()

    def make_node(self, *inputs):
        """Derivatives have the shapes of the correlations and of the residuals."""
        inputs = [pt.as_tensor_variable(x) for x in inputs]
        return Apply(self, inputs, [inputs[0].type(), inputs[1].type()])

    def perform(self, node, inputs, output_storage):
        """Run the kernel."""
        _store(output_storage, kernels.pull_back(*_contiguous(inputs)))

    def infer_shape(self, fgraph, node, shapes):
        """See ``make_node``."""
        return [shapes[0], shapes[1]]


_innovations, _pull_back = Innovations(), PullBack()


def _given(cotangent, like):
    """Zeros where an output is not used."""
    unused = isinstance(cotangent.type, DisconnectedType)
    return pt.zeros_like(like) if unused else cotangent


def _contiguous(arrays) -> list[np.ndarray]:
    return [np.array(a, order="C") for a in arrays]  # writable copies, as kernels are typed


def _store(storage, found) -> None:
    for place, array in zip(storage, found, strict=True):
        place[0] = array


def _python(kernel):
    """Hand PyTensor's linker a kernel, with the number its machine code is kept under."""
    return numba.njit(kernel.python, error_model="numpy"), SOURCE


@register_funcify_default_op_cache_key(Innovations)
def compile_innovations(op, node, **options):
    """Compile in the graph."""
    return _python(kernels.innovations)


@register_funcify_default_op_cache_key(PullBack)
def compile_pull_back(op, node, **options):
    """Compile in the graph."""
    return _python(kernels.pull_back)


class CorrelatedNormalRV(RandomVariable):
    """Draws of all rows: mean, SD, correlations and the arrangement."""

    name = "correlated_normal"
    signature = "(n),(),(c),(p,two),(e),(n)->(n)"
    dtype = "float64"
    _print_name = ("CorrelatedNormal", r"\operatorname{CorrelatedNormal}")

    @classmethod
    def rng_fn(cls, rng, mean, scale, correlations, *arrays_and_size):
        """Draw by the kernel."""
        *arrays, size = arrays_and_size
        shape = () if size is None else tuple(size)
        drawn = [simulate(rng, scale, correlations, arrays) for _ in range(int(np.prod(shape)))]
        return mean + np.reshape(drawn, (*shape, len(mean)))


@numba_core_rv_funcify.register(CorrelatedNormalRV)
def compile_draws(op, node):
    """Compile in the graph."""
    correlate, source = _python(kernels.correlate)

    @numba.njit
    def draw(rng, mean, scale, correlations, size, place, rows):
        noise = rng.standard_normal(len(mean))
        return mean + scale * correlate(correlations, noise, size, place, rows)

    return draw, source


class CorrelatedNormal(Distribution):
    """The distribution of all rows; its log density has a term for each."""

    rv_op = CorrelatedNormalRV()

    @classmethod
    def dist(cls, mean, scale, correlations, arrays, **options):
        """Parameters are those of ``CorrelatedNormalRV``."""
        return super().dist([mean, scale, correlations, *arrays], **options)

    def logp(value, mean, scale, correlations, *arrays):  # noqa: N805  # PyMC's convention
        """Log density of each row given the earlier ones of its cluster."""
        white, log_scale = _innovations(correlations, value - mean, *arrays)
        return _normal(white / scale, log_scale + pt.log(scale))


def respond(model, y, mean, scale, values) -> None:
    """Relate the observed ``y`` to its mean, residual SD and correlation; in a PyMC model.

    Parameters
    ----------
    model
        The GLMM.
    y
        The observed responses.
    mean, scale
        Of each row, and the residual SD.
    values
        Parameters of the residual correlation: a list, or a vector of correlations.
    """
    arrangement = Arrangement.of(model)
    names = ("size", "place", "rows")
    arrays = [
        shared(a, name=f"residual {name}", shape=a.shape)
        for name, a in zip(names, arrangement.arrays, strict=True)
    ]
    d = arrangement.distance
    distance = shared(d, name="residual distance", shape=d.shape)
    correlations = arrangement.correlation.between(values, distance, pt.exp)
    CorrelatedNormal(
        "y", mean, scale, correlations, arrays, observed=y, dims="observation"
    )


def correlations_of(partial, times: int) -> Any:
    """Correlations from canonical partial correlations, in the order of ``priors.correlations``.

    The same as ``cholesky_rows`` in vectors: as many times have the square of that many symbols.
    """
    column, row = np.triu_indices(times, 1)
    below = pt.set_subtensor(pt.zeros((times, times))[row, column], partial)
    logs = 0.5 * pt.log1p(-below * below)
    earlier = np.triu(np.ones((times, times)), 1)  # of column m before column j
    left = pt.exp(pt.sum(logs[:, :, None] * earlier, axis=1))
    L = (below + np.eye(times)) * left
    return pt.sum(L[row] * L[column], axis=1)


def partials_of(values: np.ndarray, times: int) -> np.ndarray:
    """Undo ``correlations_of``, in numbers."""
    column, row = np.triu_indices(times, 1)
    R = np.eye(times)
    R[row, column] = R[column, row] = values
    L = np.linalg.cholesky(R)
    left = np.sqrt(1.0 - np.cumsum(L**2, axis=1) + L**2)
    return L[row, column] / left[row, column]
