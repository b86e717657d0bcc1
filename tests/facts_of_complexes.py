"""What complexes are asked for: their edges, their simplices, how they were made."""

import numpy as np

from topolandscape.structures import LossSamples


def samples_of(points, seed=0, **options):
    return LossSamples(points, np.random.default_rng(seed).normal(size=len(points)), **options)


def dyadic(rng, shape):
    """Draw numbers in [-1, 1] to which whole numbers can be added without rounding."""
    return rng.integers(-(2**20), 2**20, size=shape) / 2**20


def edge_set(complex):
    return {tuple(edge) for edge in complex.simplices[1].tolist()}


def assert_lower_star(complex, values):
    for rows, entered in zip(complex.simplices, complex.values, strict=True):
        assert np.array_equal(entered, np.asarray(values)[rows].max(axis=1))
        assert rows.tolist() == sorted(rows.tolist())


def listed(complex):
    return {tuple(simplex) for rows in complex.simplices for simplex in rows.tolist()}


def facts(complex):
    return complex.provenance["complex"]
