"""Samples as a function: polynomials fitted around points give losses, gradients and Hessians without evaluations."""

from __future__ import annotations

from itertools import combinations_with_replacement
from math import comb
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import KDTree

from topolandscape.structures import Floats

# Highest degrees that are tried, samples for each coefficient, and how many there may be in all.
_DEGREES, _EACH, _MOST = (4, 3, 2), 2, 300
# Of the Hessian's smallest eigenvalue: a fit is taken whose losses are off by less, over the distance between samples.
_RIGHT = 0.02
# Of the largest singular value: what is smaller says that samples lie on a curve of the degree of the fit.
_SINGULAR = 1e-8


class Fit(NamedTuple):
    """What samples say about m points.

    Parameters
    ----------
    values, gradients, hessians
        Shape (m,), (m, d) and (m, d, d).
    known
        Whether the samples say it well enough, (m,).
    """

    values: Floats
    gradients: Floats
    hessians: Floats
    known: NDArray[np.bool_]


class LocalFits:
    """Polynomials fitted to the samples around any points, the nearer the more.

    Parameters
    ----------
    tree
        The samples, in units of the distance between them, (n, d).
    values
        Their losses, (n,).

    Notes
    -----
    Local regression with tricube weights (Cleveland 1979), of degree 4, or less where there are fewer than twice as
    many samples as coefficients. Its error is that of leaving each sample out in turn; it must be small beside what the
    flattest direction changes from one sample to the next, so that no minimum that the samples show is smoothed away.
    c^2 k operations a point, for c coefficients and k samples.

    Examples
    --------
    >>> points = np.stack(np.meshgrid(np.arange(9.0), np.arange(9.0)), axis=-1).reshape(-1, 2)
    >>> fits = LocalFits(KDTree(points), points[:, 0] ** 2 + 3 * points[:, 0] * points[:, 1])
    >>> fit = fits.around(np.array([[4.2, 4.0]]))
    >>> fit.gradients.round(6).tolist(), fit.hessians.round(6).tolist(), fit.known.tolist()
    ([[20.4, 12.6]], [[[2.0, 3.0], [3.0, 0.0]]], [True])
    """

    def __init__(self, tree: KDTree, values: Floats) -> None:
        self._tree, self._samples = tree, values
        n, d = tree.data.shape
        sizes = {degree: _EACH * comb(d + degree, degree) for degree in _DEGREES}
        degree = next((degree for degree, size in sizes.items() if size <= min(n, _MOST)), 1)
        self._near = sizes.get(degree, 0)  # none: too few samples
        # Coordinates whose products are the monomials, a column of ones standing at d.
        self._monomials = np.array(list(combinations_with_replacement([*range(d), d], degree))).reshape(-1, degree)

    def around(self, units: Floats) -> Fit:
        """Return losses, gradients and Hessians at points (m, d)."""
        m, d = units.shape
        fit = Fit(np.zeros(m), np.zeros((m, d)), np.zeros((m, d, d)), np.zeros(m, dtype=bool))
        if m == 0 or self._near == 0:
            return fit
        apart, near = self._tree.query(units, k=self._near)
        reach = apart[:, -1:] * (1 + 1e-6) + 1e-300
        offsets = (self._tree.data[near] - units[:, None]) / reach[:, :, None]
        weights = (1 - (apart / reach) ** 3) ** 1.5  # roots of the weights
        factors = np.concatenate([offsets, np.ones((*offsets.shape[:2], 1))], axis=2)
        design = weights[:, :, None] * factors[:, :, self._monomials].prod(axis=3)
        left, sizes, right = np.linalg.svd(design, full_matrices=False)
        full = sizes[:, -1] > _SINGULAR * sizes[:, 0]
        parts = np.einsum("mkc,mk->mc", left, weights * self._samples[near])
        coefficients = np.einsum("mcj,mc->mj", right, parts / np.maximum(sizes, 1e-300))
        missed = weights * self._samples[near] - np.einsum("mkc,mc->mk", left, parts)
        # Of a sample that is left out the fit is off by so much.
        missed /= np.maximum(1 - (left**2).sum(axis=2), 1e-6)
        error = np.sqrt((missed**2).sum(axis=1) / (weights**2).sum(axis=1))
        degree = (self._monomials < d).sum(axis=1)
        fit.values[:] = coefficients[:, degree == 0][:, 0]
        fit.gradients[:] = coefficients[:, degree == 1] / reach
        for column in np.flatnonzero(degree == 2):
            i, j = self._monomials[column, :2]
            second = coefficients[:, column] / reach[:, 0] ** 2
            fit.hessians[:, i, j] += second
            fit.hessians[:, j, i] += second
        smallest = np.abs(np.linalg.eigvalsh(fit.hessians)).min(axis=1)
        fit.known[:] = full & (error <= _RIGHT * smallest)
        return fit
