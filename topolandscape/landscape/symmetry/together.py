"""Minima modulo symmetry: each replaced by the copy that is most easily reached from the lowest."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace

import numpy as np

from topolandscape.landscape.curvature import lowest_curvatures
from topolandscape.landscape.directions import Seed
from topolandscape.landscape.loss import Landscape
from topolandscape.landscape.passes import highest_on, straight_paths
from topolandscape.landscape.symmetry.finding import symmetry_of
from topolandscape.landscape.symmetry.matching import align, align_by_activations
from topolandscape.structures import Floats, Minima

# Highest losses are equal that differ by less than this share.
_EQUAL = 1e-6


def brought_together(landscape: Landscape, minima: Minima, *, seed: Seed) -> Minima:
    """Return minima as near to the lowest one as symmetries of the network bring them.

    Between copies of a network there are barriers that say nothing but that its units have no order. With all minima
    brought together first, `minima_network` gives the network modulo symmetry.

    Parameters
    ----------
    landscape
        Of a whole module, on which the minima were found.
    minima
        Any.
    seed
        As for `align`: a whole number or a numpy Generator.

    Returns
    -------
    Minima
        The same rows. Each is as it was, or a copy of equal loss: aligned with the lowest minimum by the weights or by
        the activations, whichever has the lowest highest loss on the straight segment to it. Losses and gradients of
        copies are measured anew, and where the symmetries scale so are curvatures; the words stay. The provenance
        says what was done ("modulo_symmetry"): the symmetries; for each row "as it was", "weights" or "activations".

    Notes
    -----
    Both alignments of Ainsworth, Hayase and Srinivasa (2022), "Git Re-Basin"; see `align` and `align_by_activations`,
    which is given the first block of the data, and left out where activations cannot be seen. Each minimum is aligned
    with the lowest only, and by no means that are certain to find the best copy, so that barriers between the results
    are upper bounds of those modulo symmetry. Copies of one minimum come to lie on each other, but for the precision of
    their gradients; ``merged`` makes them one.

    Examples
    --------
    >>> import torch
    >>> module = torch.nn.Sequential(torch.nn.Linear(1, 2), torch.nn.Tanh(), torch.nn.Linear(2, 1)).double()
    >>> inputs = torch.linspace(-1, 1, 5, dtype=torch.float64)[:, None]
    >>> landscape = Landscape.from_module(module, inputs, inputs, loss=torch.nn.functional.mse_loss)
    >>> points = np.array([[1.0, 2.0, 0.5, 4.0, 5.0, 6.0, 0.0], [2.0, -1.0, 4.0, -0.5, 6.0, -5.0, 0.0]])
    >>> two = Minima(points, landscape.values(points), [0.0] * 2, [[1.0]] * 2, [0, 0], ["minimum"] * 2)
    >>> together = brought_together(landscape, two, seed=0)
    >>> bool(np.allclose(*points)), bool(np.allclose(*together.points))
    (False, True)
    >>> sorted(together.provenance["modulo_symmetry"]["copies"])
    ['as it was', 'weights']
    """
    symmetry = symmetry_of(landscape)
    lowest = int(np.nanargmin(minima.values))
    reference = minima.points[lowest]
    copies: dict[str, Floats] = {}
    if symmetry.groups:
        copies["weights"] = align(symmetry, minima.points, reference, seed=seed)
        _, (inputs, *_) = next(iter(landscape.engine.blocks()))
        # The units of some layers cannot be seen.
        with suppress(ValueError):
            copies["activations"] = align_by_activations(landscape, symmetry, minima.points, reference, inputs)
    copies["as it was"] = minima.points
    ends = np.tile(reference, (len(minima), 1))
    heights = np.stack([highest_on(landscape, straight_paths(ends, own, 3))[0] for own in copies.values()])
    lowest_heights = heights.min(axis=0)
    # Where they differ by no more than rounding may be, the first: the nearest.
    best = np.argmax(heights <= lowest_heights + _EQUAL * np.abs(lowest_heights), axis=0)
    best[lowest] = len(copies) - 1
    points = np.stack(list(copies.values()))[best, np.arange(len(minima))]
    moved = (points != minima.points).any(axis=1)
    names = list(copies)
    provenance = {
        "symmetry": repr(symmetry),
        "left_out": list(symmetry.left_out),
        "seed": None if isinstance(seed, np.random.Generator) else int(seed),
        "copies": [names[way] if gone else "as it was" for way, gone in zip(best, moved, strict=True)],
    }
    values, norms, curvature = minima.values.copy(), minima.gradient_norm.copy(), minima.curvature.copy()
    if moved.any():
        values[moved], gradients = landscape.gradients(points[moved], progress=False)
        norms[moved] = np.linalg.norm(gradients, axis=1)
        if any(scaling.scaled for group in symmetry.groups for scaling in group.scalings):
            curvature[moved] = lowest_curvatures(landscape, points[moved], curvature.shape[1], seed=seed).values
    return replace(
        minima,
        points=points,
        values=values,
        gradient_norm=norms,
        curvature=curvature,
        provenance={**minima.provenance, "modulo_symmetry": provenance},
    )
