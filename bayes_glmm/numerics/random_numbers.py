"""Random numbers inside kernels: a stream of its own for every draw.

Numba's generator belongs to a thread; with a stream for each draw the numbers are the same for
any number of threads.
"""

from math import cos, log, pi, sqrt

import numpy as np
from numba import types

from .compiled import helper

States = types.uint64[::1]

# SplitMix64 (Steele, Lea & Flood 2014)
STEP = np.uint64(0x9E3779B97F4A7C15)
FIRST = np.uint64(0xBF58476D1CE4E5B9)
SECOND = np.uint64(0x94D049BB133111EB)
S30, S27, S31, S11 = np.uint64(30), np.uint64(27), np.uint64(31), np.uint64(11)
UNIT = 2.0**-53


@helper
def uniform(states, d):
    """Draw from (0, 1), both ends excluded, and advance stream ``d``."""
    states[d] += STEP
    z = states[d]
    z = (z ^ (z >> S30)) * FIRST
    z = (z ^ (z >> S27)) * SECOND
    z = z ^ (z >> S31)
    return (float(z >> S11) + 0.5) * UNIT


@helper
def normal(states, d):
    """Draw a standard normal (Box & Muller 1958)."""
    radius = sqrt(-2.0 * log(uniform(states, d)))
    return radius * cos(2.0 * pi * uniform(states, d))


def streams(sequence: np.random.SeedSequence, size: int) -> np.ndarray:
    """Give the starts of ``size`` streams."""
    return sequence.generate_state(size, np.uint64)
