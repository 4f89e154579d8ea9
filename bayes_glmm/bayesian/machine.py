"""A PyMC graph compiled for nutpie, once for all graphs that differ in their numbers only.

Data and the priors' parameters are shared variables of the graph. What was compiled for one
graph serves another whose log density is the same expression of other shared values, so that a
sweep over priors compiles once. PyTensor keeps the compiled expression on disk as well,
because no number is part of it.

nutpie's own ``compile_pymc_model`` is not used: it has no place for the linear map of
``metric``, and most of its seconds go into compiling the message of an error that cannot occur.
"""

import logging
import warnings
from ctypes import POINTER, c_double
from dataclasses import dataclass, replace
from hashlib import sha256
from inspect import getsource
from itertools import pairwise
from math import prod
from typing import Any, cast

import numba
import numpy as np
import pytensor
import pytensor.gradient
import pytensor.tensor as pt
from nutpie import compile_pymc as bridge
from pymc.pytensorf import compile as compile_pymc
from pytensor.compile.sharedvalue import SharedVariable
from pytensor.graph.basic import equal_computations
from pytensor.graph.replace import clone_replace
from pytensor.graph.rewriting.utils import rewrite_graph
from pytensor.graph.traversal import graph_inputs
from pytensor.link.numba.cache import CACHED_SRC_FUNCTIONS, compile_numba_function_src

from ..numerics.triangular import inner_gradient, outer
from .metric import Metric

log = logging.getLogger("bayes_glmm")

START = 0.5  # spread of the chains' starts, in posterior SDs
KEPT = 16  # compiled expressions, the least recently used is dropped
C_LOGP = numba.types.int64(
    numba.types.uint64, *[numba.types.CPointer(numba.types.double)] * 3, numba.types.voidptr
)
C_EXPAND = numba.types.int64(
    *[numba.types.uint64] * 2,
    *[numba.types.CPointer(numba.types.double)] * 2,
    numba.types.voidptr,
)


@dataclass(frozen=True, eq=False)
class Expression:
    """A graph's log density and named quantities, of its unconstrained values.

    Attributes
    ----------
    outputs
        The log density, then the named quantities.
    values
        Variables they are functions of.
    shared
        Containers they read, by name.
    """

    outputs: list
    values: list
    shared: dict[str, Any]

    @classmethod
    def of(cls, graph, names) -> "Expression":
        """Take it from a PyMC model."""
        outputs = [graph.logp(), *graph.replace_rvs_by_values([graph[name] for name in names])]
        values = [graph.rvs_to_values[v] for v in graph.free_RVs]
        found = [v for v in graph_inputs(outputs) if isinstance(v, SharedVariable)]
        shared = {str(v.name): v for v in found}
        if len(shared) != len(found):
            raise ValueError("two containers of a graph have one name: give each its own.")
        return cls(outputs, values, dict(sorted(shared.items())))

    def same_as(self, other: "Expression") -> bool:
        """Whether only the values of the containers may differ."""
        mine, theirs = list(self.shared.values()), list(other.shared.values())
        return (
            [v.name for v in self.values] == [v.name for v in other.values]
            and list(self.shared) == list(other.shared)
            and [v.type for v in mine] == [v.type for v in theirs]
            and equal_computations(
                self.outputs, other.outputs, [*self.values, *mine], [*other.values, *theirs]
            )
        )

    @property
    def data(self) -> dict[str, np.ndarray]:
        """Values of the containers."""
        return {
            name: np.array(v.get_value(), order="C", copy=True) for name, v in self.shared.items()
        }


@dataclass(frozen=True, eq=False)
class Machine:
    """A compiled expression.

    Attributes
    ----------
    expression
        What was compiled.
    shapes
        Of the unconstrained values, by name.
    sampler
        nutpie's model, whose containers and ``metric`` are replaced for each graph.
    """

    expression: Expression
    shapes: dict[str, tuple[int, ...]]
    sampler: Any

    def with_data(self, data: dict[str, np.ndarray], metric: Metric):
        """Give nutpie's model for these data."""
        arrays = metric_arrays(metric) | data
        return replace(self.sampler, shared_data=arrays, user_data=table_of(arrays))

    def gradient(self, data: dict[str, np.ndarray]):
        """Give ``x -> (log density, gradient)`` for these data; NaN where it has none."""
        size = self.sampler.n_dim
        ready = self.with_data(data, unit_metric(size))
        call, table = self.sampler.compiled_logp_func.ctypes, ready.user_data.ctypes.data
        double = POINTER(c_double)

        def f(x):
            x, slope, value = np.array(x, float), np.empty(size), np.empty(1)
            arrays = [a.ctypes.data_as(double) for a in (x, slope, value)]
            if call(size, *arrays, table):
                return np.nan, np.full(size, np.nan)
            return float(value[0]), slope

        f.holds = ready  # the arrays whose addresses are in the table
        return f


_machines: list[Machine] = []  # the last used first


def machine_of(graph, shapes: dict[str, tuple[int, ...]]) -> tuple:
    """Compile a graph, or take what was compiled for one of the same expression.

    Parameters
    ----------
    graph
        The PyMC model.
    shapes
        Of the variables wanted as draws, by name.

    Returns
    -------
    machine, data, fresh
        The compiled functions, the values of this graph's containers, and whether anything
        was compiled.
    """
    expression = Expression.of(graph, shapes)
    for machine in _machines:
        if machine.expression.same_as(expression):
            _machines.remove(machine)
            _machines.insert(0, machine)
            return machine, expression.data, False
    log.info("NUTS: compiling the log density")
    machine = build(graph, expression, sum(map(prod, shapes.values())))
    _machines.insert(0, machine)
    del _machines[KEPT:]
    return machine, expression.data, True


def build(graph, expression: Expression, wide: int) -> Machine:
    """Compile."""
    point = graph.initial_point()
    shapes = {v.name: np.shape(point[v.name]) for v in expression.values}
    ends = np.cumsum([0, *(int(np.prod(shape)) for shape in shapes.values())])
    x = pt.tensor("x", dtype="float64", shape=(int(ends[-1]),))
    given = {
        v: x[first:last].reshape(shapes[v.name])
        for v, (first, last) in zip(expression.values, pairwise(ends.tolist()), strict=True)
    }
    logp, *quantities = expression.outputs
    # a copy is rewritten: the expression itself is compared with others later
    logp = cast("Any", rewrite_graph(logp, include=["canonicalize", "stabilize"], clone=True))
    slopes = cast("Any", pytensor.gradient.grad(logp, expression.values))
    gradient = pt.concatenate([slope.ravel() for slope in slopes])
    joined = pt.concatenate([quantity.ravel() for quantity in quantities])
    outputs = cast("Any", [logp, gradient, joined])
    logp, gradient, joined = clone_replace(outputs, given)
    with graph:
        density = compile_pymc([x], [logp, gradient], mode="NUMBA")
        expand = compile_pymc([x], [joined], mode="NUMBA")
    sampler = bridge_to_nutpie(expression, int(ends[-1]), wide, density, expand)
    return Machine(expression, shapes, sampler)


METRIC = ("centre", "order", "diagonal", "start", "row", "value")
READ = """
def {name}({arguments}, address):
    table = carray(address, ({width},), int64)
    {arrays}
"""
LOG_DENSITY = """\
    z, out = carray(z_, ({size},)), carray(slope_, ({size},))
    try:
        value, slope = function(outer(z, {metric}), {data})
        slope = inner_gradient(slope, {metric})
    except Exception:
        return 1
    carray(logp_, (1,))[0] = value[()]
    for i in range({size}):
        out[i] = slope[i]
        if not isfinite(slope[i]):
            return 3
    return 0 if isfinite(value[()]) else 4
"""
EXPAND = """\
    z, out = carray(z_, ({size},)), carray(out_, ({wide},))
    try:
        (values,) = function(outer(z, {metric}), {data})
    except Exception:
        return -2
    for i in range({wide}):
        out[i] = values[i]
    return 0
"""
SCOPE = {
    "__name__": __name__,  # what Numba keeps on disk names its module
    "carray": numba.carray,  # pyright: ignore[reportPrivateImportUsage]
    "pointer": bridge.address_as_void_pointer,
    "isfinite": np.isfinite,
    "outer": numba.njit(outer.python),
    "inner_gradient": numba.njit(inner_gradient.python),
    "int64": np.int64,
}


def reading(arrays: dict[str, np.ndarray]) -> dict[str, str]:
    """Expressions for the arrays whose addresses and shapes are in ``table_of`` them."""
    found, at = {}, 0
    for name, a in arrays.items():
        shape = ", ".join(f"table[{at + 1 + k}]" for k in range(a.ndim)) or "1"
        found[name] = f"carray(pointer(table[{at}]), ({shape},), {a.dtype})"
        found[name] += "" if a.ndim else ".reshape(())"
        at += 1 + a.ndim
    return found


def table_of(arrays: dict[str, np.ndarray]) -> np.ndarray:
    """Addresses and shapes, array by array."""
    return np.array([n for a in arrays.values() for n in (a.ctypes.data, *a.shape)], np.int64)


def c_function(body: str, signature, function, arrays: dict[str, np.ndarray], **numbers):
    """Compile a C function of ``z`` around a PyTensor function of ``x``, or load it from disk.

    It is written as text, as PyTensor's own functions are, because Numba has no tuple of arrays
    of several types that can be filled in a loop, and because text without closures can be
    kept on disk under PyTensor's key of the function.
    """
    read = reading(arrays)
    metric = [f"metric {name}" for name in METRIC]
    data = [v.name for v in function.get_shared()]
    local = {name: f"a{k}" for k, name in enumerate([*metric, *data])}
    source = (READ + body).format(
        name="bayes_glmm_function",
        arguments="dim, z_, slope_, logp_" if body is LOG_DENSITY else "dim, expanded, z_, out_",
        width=sum(1 + a.ndim for a in arrays.values()),
        arrays="\n    ".join(f"{a} = {read[name]}" for name, a in local.items()),
        metric=", ".join(local[name] for name in metric),
        data=", ".join(local[name] for name in data),
        **numbers,
    )
    compiled = function.vm.jit_fn
    key = CACHED_SRC_FUNCTIONS.get(compiled.py_func)
    if key is not None:
        sources = getsource(outer.python), getsource(inner_gradient.python)
        parts = (__name__, source, *sources, key, pytensor.__version__)
        key = sha256(repr(parts).encode()).hexdigest()
    types = {str(a.dtype): a.dtype.type for a in arrays.values()}
    python = compile_numba_function_src(
        source, "bayes_glmm_function", {**SCOPE, **types, "function": compiled}, cache_key=key
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", numba.NumbaWarning)  # where it cannot be kept on disk
        return numba.cfunc(signature, cache=key is not None)(python)


def bridge_to_nutpie(expression, size: int, wide: int, density, expand):
    """Make nutpie's model of compiled functions of ``z``, whose metric is data as well."""
    arrays = metric_arrays(unit_metric(size)) | expression.data
    return bridge.CompiledPyMCModel(
        dims={},
        _n_dim=size,
        _coords={},
        _shapes={"values": (wide,)},
        compiled_logp_func=c_function(LOG_DENSITY, C_LOGP, density, arrays, size=size),
        compiled_expand_func=c_function(EXPAND, C_EXPAND, expand, arrays, size=size, wide=wide),
        initial_point_func=lambda seed: np.random.default_rng(seed).normal(0.0, START, size),
        shared_data=arrays,
        shared_var_keys={},
        user_data=table_of(arrays),
        n_expanded=wide,
        shape_info=(["values"], [slice(0, wide)], [(wide,)]),
        logp_func=density,
        expand_func=expand,
    )


def metric_arrays(metric: Metric) -> dict[str, np.ndarray]:
    """Arrays of a metric by name."""
    return {f"metric {name}": a for name, a in zip(METRIC, metric.arrays, strict=True)}


def unit_metric(size: int) -> Metric:
    """``x = z``."""
    nothing = np.zeros(size + 1, np.int64), np.zeros(0, np.int64), np.zeros(0)
    return Metric(np.zeros(size), np.arange(size), np.ones(size), nothing)
