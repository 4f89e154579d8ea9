"""The normal distribution of rows that are correlated within clusters, for PyTensor and PyMC.

What follows the correlations of the distinct distances, the Cholesky factors of the distinct
patterns of times (``numerics.innovations``), is one operation with a derivative: its machine code
serves every model.
"""

from hashlib import sha256
from inspect import getsource
from typing import Any, cast

import numba
import numpy as np
import pytensor.tensor as pt
from pymc.distributions.distribution import Distribution
from pytensor.gradient import DisconnectedType, disconnected_type
from pytensor.graph.basic import Apply
from pytensor.graph.op import Op
from pytensor.link.numba.dispatch.basic import register_funcify_default_op_cache_key
from pytensor.link.numba.dispatch.random import numba_core_rv_funcify
from pytensor.tensor.random.op import RandomVariable

from ..numerics import innovations as kernels
from .arrangement import log_normal, simulate

# under this number PyTensor keeps the machine code of the kernels on disk
SOURCE = int(sha256(getsource(kernels).encode()).hexdigest()[:12], 16)


class Innovations(Op):
    """``innovations`` as an operation: correlations and residuals to ``w`` and ``log L_jj``."""

    __props__ = ()

    def make_node(self, *inputs):
        """Give both outputs a number for every row."""
        inputs = [pt.as_tensor_variable(x) for x in inputs]
        return Apply(self, inputs, [inputs[1].type(), inputs[1].type()])

    def perform(self, node, inputs, output_storage):
        """Run the kernel."""
        _store(output_storage, kernels.innovations(*_contiguous(inputs)))

    def infer_shape(self, node, shapes):
        """See ``make_node``."""
        return [shapes[1], shapes[1]]

    def pullback(self, inputs, outputs, cotangents):
        """See ``pull_back``; the arrangement of the rows has no derivative."""
        values, _, *arrays = inputs
        by = [_given(c, x) for c, x in zip(cotangents, outputs, strict=True)]
        found = cast("Any", _pull_back(values, outputs[0], *by, *arrays))
        return [*found, *(disconnected_type() for _ in arrays)]

    def connection_pattern(self, node):
        """Say that outputs have no derivative by the arrangement."""
        return [[k < 2] * 2 for k in range(len(node.inputs))]


class PullBack(Op):
    """``pull_back`` as an operation."""

    __props__ = ()

    def make_node(self, *inputs):
        """Give derivatives the shapes of the correlations and of the residuals."""
        inputs = [pt.as_tensor_variable(x) for x in inputs]
        return Apply(self, inputs, [inputs[0].type(), inputs[1].type()])

    def perform(self, node, inputs, output_storage):
        """Run the kernel."""
        _store(output_storage, kernels.pull_back(*_contiguous(inputs)))

    def infer_shape(self, node, shapes):
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
        count = int(np.prod(shape, dtype=int))
        drawn = [simulate(rng, scale, correlations, arrays) for _ in range(count)]
        return mean + np.reshape(drawn, (*shape, len(mean)))


@numba_core_rv_funcify.register(CorrelatedNormalRV)
def compile_draws(op, node):
    """Compile in the graph."""
    correlate: Any
    correlate, source = _python(kernels.correlate)

    @numba.njit
    def draw(rng, mean, scale, correlations, size, place, rows):
        noise = rng.standard_normal(len(mean))
        return mean + scale * correlate(correlations, noise, size, place, rows)

    return draw, source


class CorrelatedNormal(Distribution):
    """The distribution of all rows; its log density has a term for each."""

    rv_op: Any = CorrelatedNormalRV()

    @classmethod
    def dist(cls, mean, scale, correlations, arrays, **options):
        """Parameters are those of ``CorrelatedNormalRV``."""
        return super().dist([mean, scale, correlations, *arrays], **options)

    @staticmethod
    def logp(value, mean, scale, correlations, *arrays):
        """Log density of each row given the earlier ones of its cluster."""
        found: Any = _innovations(correlations, value - mean, *arrays)
        return log_normal(found[0] / scale, found[1] + pt.log(scale))
