"""The one Numba decorator: compiled once per machine and version, kept on disk.

A kernel is compiled at its first call, not at import, and cached in a folder of the
package's own. The folder's name is a hash of the sources of all kernels and families, the
Numba version and the processor, because Numba by itself does not notice that a helper in
another file has changed.
"""

import getpass
import logging
import os
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache, cached_property
from hashlib import sha256
from pathlib import Path
from pickle import PickleError
from threading import RLock
from typing import Any

import llvmlite.binding as llvm
import numba
from numba import types
from numba.core import cgutils
from numba.core import config as numba_config
from numba.experimental.function_type import FunctionModel, _get_wrapper_address
from numba.extending import NativeValue, register_model, typeof_impl, unbox
from platformdirs import user_cache_path

logger = logging.getLogger("bayes_glmm")

# error_model="numpy": a zero division gives inf, and loops can be vectorised;
# "contract": a*b+c may be rounded once (FMA), but sums are never reordered
OPTIONS = {"error_model": "numpy", "nogil": True, "fastmath": {"contract", "arcp"}}
# what reading a damaged file may raise; errors of compilation are none of these
DAMAGED = (OSError, EOFError, PickleError, AttributeError, ImportError, LookupError, ValueError)
_lock = RLock()

Real = types.float64
Integer = types.int64
Vector = types.float64[::1]
Matrix = types.float64[:, ::1]
Cube = types.float64[:, :, ::1]
Indices = types.int64[::1]
Positions = types.uint64[::1]
IndexTable = types.int64[:, ::1]


class PointerType(types.FunctionType):
    """The type of ``FirstClass`` functions as arguments of kernels."""


# of the functions in bind.Blocks
BLOCK_SIGNATURE = types.void(Vector, Vector, Vector, Real, Integer, Integer, Matrix)
Block = PointerType(BLOCK_SIGNATURE)
register_model(PointerType)(FunctionModel)


class FirstClass:
    """A compiled function that kernels take as an argument, and call by its address.

    For a plain compiled function Numba looks type and address up at every call of a kernel,
    which takes longer (.4 ms) than a small kernel runs; here it is done once.
    """

    def __init__(self, function, signature):
        self.compiled = function
        self.type = PointerType(signature)
        self.address = _get_wrapper_address(function, signature)

    def __call__(self, *arguments):
        """Run the compiled function."""
        return self.compiled(*arguments)


@typeof_impl.register(FirstClass)
def type_of_first_class(function, context):
    """Tell Numba the type of a ``FirstClass``."""
    return function.type


@unbox(PointerType)
def unbox_first_class(kind, function, context):
    """Hand a kernel the address of a ``FirstClass``."""
    address = context.pyapi.object_getattr_string(function, "address")
    struct = cgutils.create_struct_proxy(kind)(context.context, context.builder)
    struct.c_addr = context.pyapi.long_as_voidptr(address)
    struct.jit_addr = cgutils.get_null_value(struct.jit_addr.type)
    context.pyapi.decref(address)
    return NativeValue(struct._getvalue())


@cache
def source_hash() -> str:
    """Hash what compiled code depends on: our sources, the Numba version, the processor."""
    package = Path(__file__).parents[1]
    digest = sha256(f"{numba.__version__} {llvm.get_host_cpu_name()}".encode())
    for file in sorted([*package.glob("numerics/*.py"), *package.glob("families/*.py")]):
        digest.update(file.read_bytes())
    return digest.hexdigest()[:16]


def _private(folder: Path) -> bool:
    """Make ``folder`` if need be; tell whether it can be written, and only by this user.

    Cached machine code is loaded and run, so a folder that others may write is not trusted.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        with tempfile.TemporaryFile(dir=folder):
            pass
        if not hasattr(os, "getuid"):
            return True
        status = folder.stat()
        others = stat.S_IWGRP | stat.S_IWOTH
        return status.st_uid == os.getuid() and not status.st_mode & others
    except OSError:
        return False


def _user_name() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):
        return "user"


@cache
def cache_folder() -> Path | None:
    """Return the folder of compiled kernels: the user's cache, else a temporary one, else None.

    Anything but the first is logged, once.
    """
    usual = user_cache_path("bayes_glmm", appauthor=False) / "kernels" / source_hash()
    spare = Path(tempfile.gettempdir()) / f"bayes_glmm-{_user_name()}" / source_hash()
    first_use = not usual.exists()
    if _private(usual):
        if first_use:
            logger.info("compiling the numerical kernels: a few seconds, once per version")
        return usual
    if _private(spare.parent) and _private(spare):
        logger.warning("%s cannot be written: compiled kernels are kept in %s", usual, spare)
        return spare
    logger.warning("no folder for compiled kernels can be written: they are compiled anew")
    return None


@contextmanager
def _numba_cache(folder: Path) -> Iterator[None]:
    """Point Numba to ``folder`` while one function is set up, and back afterwards."""
    with _lock:
        setting: Any = numba_config
        before = setting.CACHE_DIR
        setting.CACHE_DIR = str(folder)
        try:
            yield
        finally:
            setting.CACHE_DIR = before


def compile_function(function, signature):
    """Compile ``function`` for ``signature``, or load it from the cache folder."""
    folder = cache_folder()
    if folder is not None:
        try:
            with _numba_cache(folder):
                return numba.njit(signature, cache=True, **OPTIONS)(function)
        except DAMAGED as error:  # cut short by a full disk or a power failure, or unwritable now
            logger.warning(
                "compiled kernels in %s cannot be used (%r): compiling anew; delete the folder",
                folder, error,
            )  # fmt: skip
    return numba.njit(signature, **OPTIONS)(function)


class Kernel:
    """A function that is compiled when it is first called."""

    def __init__(self, function, signature):
        self.python = function
        self.signature = signature
        self.__doc__ = function.__doc__
        self.__name__ = function.__name__
        self._compiled = None

    @property
    def compiled(self):
        """The compiled function, made at the first request."""
        if self._compiled is None:
            with _lock:
                if self._compiled is None:
                    self._compiled = compile_function(self.python, self.signature)
        return self._compiled

    @property
    def address(self) -> str:
        """Where it is defined: ``module:name``."""
        return f"{self.python.__module__}:{self.__name__}"

    @property
    def is_cached(self) -> bool:
        """Whether the machine code is here, or in the cache folder."""
        folder = cache_folder()
        return self._compiled is not None or (
            # Numba's index of a function: file.function-line.python.nbi, in a folder by file
            folder is not None and any(folder.glob(f"*/*.{self.__name__}-*.nbi"))
        )

    @cached_property
    def pointer(self) -> FirstClass:
        """The compiled function as an argument of other kernels, which share its one copy."""
        return FirstClass(self.compiled, self.signature)

    def __call__(self, *arguments):
        """Run the compiled function."""
        return self.compiled(*arguments)


class FixedTypes:
    """A kernel for a caller whose arguments always have the same types.

    At the first call Numba compares them with the signature. Later calls go to the machine code:
    for arguments that are functions Numba looks types up in Python at every call, which takes
    longer (20 us) than a small integral.
    """

    def __init__(self, kernel: Kernel):
        self._kernel = kernel
        self._machine_code: Any = None

    def __call__(self, *arguments):
        """Run the compiled function."""
        if self._machine_code is not None:
            return self._machine_code(*arguments)
        found = self._kernel(*arguments)
        (overload,) = self._kernel.compiled.overloads.values()
        self._machine_code = overload.entry_point
        return found


def kernel(signature):
    """Decorate a kernel that is called from Python: explicit signature, cached on disk."""
    return lambda function: Kernel(function, signature)


# a helper is compiled into its callers; inlined, or loops around it would not vectorise
helper = numba.njit(**OPTIONS)
inlined = numba.njit(forceinline=True, **OPTIONS)
