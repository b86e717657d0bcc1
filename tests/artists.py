"""What a picture holds: marks, lines and words."""

import numpy as np
from matplotlib.collections import LineCollection

from topolandscape import Barcode


def code(pairs, minima=None, saddles=None, dim=0, **provenance):
    pairs = np.array(pairs, dtype=float).reshape(-1, 2)
    minima = np.full(len(pairs), -1) if minima is None else minima
    saddles = np.full(len(pairs), -1) if saddles is None else saddles
    dims = np.broadcast_to(dim, len(pairs)).astype(int)
    sizes = np.zeros(len(pairs), dtype=int)
    return Barcode(dims, pairs[:, 0], pairs[:, 1], minima, saddles, minima, saddles, sizes, provenance)


def line(ax, label):
    """Return the points of the marks with this name, (n, 2)."""
    found = [np.array(artist.get_data(), dtype=float).T for artist in ax.lines if artist.get_label() == label]
    return np.concatenate(found) if found else np.zeros((0, 2))


def segments(ax, dashed=None):
    """Return the straight lines of a picture as (x, y) (x, y)."""
    found = [
        segment.tolist()
        for artist in ax.collections
        if isinstance(artist, LineCollection)
        and (dashed is None or dashed == (artist.get_linestyle()[0][1] is not None))
        for segment in artist.get_segments()
    ]
    return sorted(found)


def legend(ax):
    return [text.get_text() for text in ax.get_legend().get_texts()]


def marks(ax):
    """Return where the marks of passes are, by their words."""
    found = {word: line(ax, word).tolist() for word in ("verified saddle", "path maximum", "not converged", "saddle")}
    return {word: places for word, places in found.items() if places}
