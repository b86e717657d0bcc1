"""Points and planes of parameter space, said in plain values.

That is what the page sends and what stands in its address; whatever is no such value is refused. Nothing of it is run,
and no file is named.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from topolandscape.explore.live import Live, Plane
from topolandscape.explore.model import Explored, way_of
from topolandscape.structures import Floats, Subspace

_MARGIN = 0.25  # how far a slice through points reaches beyond them, as a share of their extent
_DEEPEST = 16  # points on planes through points on planes ...
_PRODUCTS = 200  # with the Hessian, for its ends


def point(at: Live, said: Mapping[str, Any], *, depth: int = 0) -> Floats:
    """Return the parameter vector of a point.

    Parameters
    ----------
    at
        The network.
    said
        One of ``{"start": 0}``: the network as it was made; ``{"minimum": row}``: of the table of bars;
        ``{"pass": bar}``: the highest point on the path of a bar; ``{"path": [bar, share]}``: a share of the length of
        that path from its beginning; ``{"plane": plane, "xy": [x, y]}``: a point of a plane. Besides, ``"moved"``:
        values of single parameters, by their numbers as text.
    depth
        How many planes lead here.

    Returns
    -------
    Floats
        Shape (p,).

    Raises
    ------
    ValueError
        There is no such point.
    """
    if not isinstance(said, Mapping) or depth > _DEEPEST:
        raise ValueError(f"{said!r} is no point; choose one on the page.")
    try:
        found = np.array(_point(at, said, depth), dtype=np.float64)
        moved = {int(number): float(value) for number, value in dict(said.get("moved") or {}).items()}
    except (KeyError, TypeError, IndexError) as error:
        raise ValueError(f"{dict(said)!r} is no point of this run.") from error
    for number, value in moved.items():
        if not 0 <= number < len(found) or not np.isfinite(value):
            raise ValueError(f"parameter {number} cannot be {value}; there are {len(found)}, from 0.")
        found[number] = value
    return found


def _point(at: Live, said: Mapping[str, Any], depth: int) -> Floats:
    run = at.run
    if "start" in said:
        assert at.landscape.point is not None
        return at.landscape.point
    if "plane" in said:
        x, y = (float(value) for value in said["xy"])
        if not (np.isfinite(x) and np.isfinite(y)):
            raise ValueError(f"the place {x}, {y} is not finite.")
        return plane(at, said["plane"], depth=depth + 1).subspace.parameters([[x, y]])[0]
    if run is None:
        raise KeyError("run")
    if "minimum" in said:
        row = _row(said["minimum"])
        return run.network.minima.points[row] if run.network is not None else _sample(run, row)
    bar, share = (said["pass"], None) if "pass" in said else said["path"]
    bar = _row(bar)
    if run.network is not None:
        edge = _row(int(run.code.death_simplex[bar]))
        return run.network.tops[edge] if share is None else _along(run.network.paths[edge], float(share))
    if share is None:
        return _sample(run, _row(int(run.code.death_vertex[bar])))
    assert run.samples is not None
    if bar not in at.ways:
        at.ways[bar] = way_of(run, bar)
    rows = at.ways[bar]
    if len(rows) < 2:
        raise ValueError(f"there is no path of bar {bar}.")
    # Lengths are those of the coordinates, as in the figure.
    place = _along(run.samples.points[rows], float(share))
    return place if run.samples.subspace is None else run.samples.subspace.parameters(place[None])[0]


def _row(number: Any) -> int:
    if isinstance(number, bool) or not isinstance(number, int) or number < 0:
        raise ValueError(f"{number!r} is no row; rows are counted from 0.")
    return number


def _sample(run: Explored, row: int) -> Floats:
    assert run.samples is not None
    return run.samples.parameters([row])[0]


def _along(path: Floats, share: float) -> Floats:
    """Return the point at a share of the length of a path."""
    if not 0 <= share <= 1:
        raise ValueError(f"a share of a path is {share}; it needs to be from 0 to 1.")
    lengths = np.append(0.0, np.cumsum(np.linalg.norm(np.diff(path, axis=0), axis=1)))
    where = float(np.interp(share * lengths[-1], lengths, np.arange(len(path))))
    before = min(int(where), len(path) - 2)
    return path[before] + (where - before) * (path[before + 1] - path[before])


def plane(at: Live, said: Mapping[str, Any], *, depth: int = 0) -> Plane:
    """Return a plane through a point and along two others or two directions.

    Parameters
    ----------
    at
        The network.
    said
        ``{"through": [first, second, third], "reach": r}``. The first is a point; the others are points, or directions
        from the first: ``{"random": seed}``, scaled like the weights (Li et al. 2018); ``{"gradient": 0}``;
        ``{"lowest": k}`` and ``{"highest": k}``: the Hessian's k-th eigenvector from below or above, counted from 0.
        Along directions one looks r times as far as the first point is from 0, both ways.
    depth
        How many planes lead here.

    Returns
    -------
    Plane

    Raises
    ------
    ValueError
        There is no such plane, or the points lie on a line.
    """
    from topolandscape.landscape.directions import affine_span

    key = json.dumps(said, sort_keys=True)
    if key in at.planes:
        return at.planes[key]
    through = said.get("through") if isinstance(said, Mapping) else None
    if not isinstance(through, Sequence) or len(through) != 3:
        raise ValueError(f"{said!r} is no plane; it needs three points or directions.")
    reach = float(said.get("reach", 0.5))
    if not 0 < reach <= 100:
        raise ValueError(f"the reach is {reach:g}; it needs to be above 0 and at most 100.")
    origin = point(at, through[0], depth=depth)
    length = float(np.linalg.norm(origin)) or 1.0
    corners, seen = [origin], [origin]
    for part in through[1:]:
        way = _direction(at, origin, part)
        if way is None:
            other = point(at, part, depth=depth)
            corners.append(other)
            seen.append(other)
        else:
            step = reach * length * way / max(float(np.linalg.norm(way)), np.finfo(float).tiny)
            corners.append(origin + step)
            seen += [origin - step, origin + step]
    first, directions = affine_span(np.array(corners))
    places = (np.array(seen) - first) @ directions.T
    low, high = places.min(axis=0), places.max(axis=0)
    border = _MARGIN * (high - low)
    named = {
        name_of(part): (other - first) @ directions.T
        for part, other in zip(through, corners, strict=True)
        if direction_of(part) is None
    }
    at.planes[key] = Plane(Subspace(first, directions), low - border, high + border, named)
    return at.planes[key]


def direction_of(said: Mapping[str, Any]) -> str | None:
    """Return which direction is said, None where it is a point."""
    return next((name for name in ("random", "gradient", "lowest", "highest") if name in said), None)


def _direction(at: Live, origin: Floats, said: Mapping[str, Any]) -> Floats | None:
    """Return the direction that is said, None where it is a point."""
    from topolandscape.landscape.curvature import highest_curvatures, lowest_curvatures
    from topolandscape.landscape.directions import random_directions

    name = direction_of(said) if isinstance(said, Mapping) else None
    if name is None:
        return None
    number = _row(said[name])
    with at.lock:
        if name == "random":
            return random_directions(at.landscape, 1, seed=number, at=origin)[0]
        if name == "gradient":
            return at.landscape.gradients(origin[None], progress=False)[1][0]
        ends = lowest_curvatures if name == "lowest" else highest_curvatures
        if number >= min(4, at.landscape.dimension):
            raise ValueError(f"direction {number} of the Hessian is not looked for; the first four are.")
        found = ends(at.landscape, origin[None], number + 1, seed=0, tolerance=1e-3, max_products=_PRODUCTS)
        return found.vectors[0, number]


def name_of(said: Mapping[str, Any]) -> str:
    """Return what a point is called in a figure."""
    if said.get("moved") or "plane" in said or "path" in said:
        return "here"
    if "minimum" in said:
        return f"minimum {said['minimum']}"
    return f"pass of bar {said['pass']}" if "pass" in said else "start"
