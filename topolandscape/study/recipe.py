"""What one run computes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from types import MappingProxyType
from typing import Any, Literal, get_args

from topolandscape.structures import CONNECTIVITIES, Connectivity, Lower

Route = Literal["minima", "sample"]
Region = Literal["plane", "random", "pca", "segment", "box", "ball", "hull", "grid"]
REGIONS: tuple[Region, ...] = get_args(Region)
Nonfinite = Literal["raise", "infinite"]
Method = Literal["adam", "sgd", "nesterov"]
Schedule = Literal["cosine", "linear", "constant"]
Pairs = Literal["tree", "all"]
Start = Literal["straight", "bent", "constant"]

_ALL_AROUND = 4  # coordinates of a grid up to which all points around one are its neighbours

# What a finished run may be asked anew with other values of: what it has computed until then stays.
ANEW: Mapping[Route, tuple[str, ...]] = MappingProxyType(
    {
        "minima": ("seconds", "evaluations"),
        "sample": ("neighbours", "connect", "edge_points", "connectivity", "nonfinite", "max_dim"),
    }
)
ROUTES: Mapping[Route, tuple[str, ...]] = MappingProxyType(
    {
        "minima": (
            *("minima", "checkpoints", "method", "momentum", "schedule", "warm_up", "batch", "record_every"),
            *("tolerance", "max_evaluations", "merge", "modulo_symmetry", "lower", "pairs", "start", "explore"),
            *ANEW["minima"],
        ),
        "sample": (
            *(
                "region",
                "resolution",
                "margin",
                "points",
                "low",
                "high",
                "axes",
                "radius",
                "enlarge",
                "below",
                "starts",
            ),
            "memory",
            *ANEW["sample"],
        ),
    }
)
"""The options of a recipe that only one route reads."""


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """What one run computes.

    Parameters
    ----------
    model
        A name of the zoo (``mlp:64-16-10``), or ``file.py:function`` returning a torch module.
    data
        A data set of the zoo (``digits``), or ``file.py:function`` returning (inputs, targets), or (inputs, targets,
        test inputs, test targets).
    loss
        ``cross_entropy``, ``mse``, or ``file.py:function`` taking (outputs, targets). None: what fits the data.
    weight_decay
        Factor of the squared norm of the parameters, added to the loss.
    route
        ``minima``: trained minima, and the lowest passes found between them; ``sample``: losses of a region of
        parameter space.
    steps, learning_rate
        Of the descents. Steps not given: 1000, or none from checkpoints. On the route ``sample`` the descents are
        those of Adam on the whole training data.
    minima
        Route ``minima``, and so on to `evaluations`: how many descents to start. None: 16, or as many as there are
        checkpoints.
    checkpoints
        Files of trained checkpoints of the model, from which to start instead.
    method, momentum, schedule, warm_up, batch
        Of the descents, as for `topolandscape.descend`.
    record_every
        Keep points of the descents every so many steps, as ``trajectories``. None: keep none.
    tolerance, max_evaluations
        Gradient norm below which a point counts as stationary, and gradients that polishing may take for each point.
    merge
        Largest relative distance of two points that may be the same minimum; see `topolandscape.minima`.
    modulo_symmetry
        Replace each minimum by its copy that is most easily reached from the lowest one before they are joined, and
        count copies as one minimum; see `topolandscape.brought_together`.
    lower
        Which minima end bars: ``any`` that is lower, also one met on the way, as a bar is defined; ``trained``: the
        trained ones alone, so that bars say how high one must climb from one of them to the next.
    pairs
        ``tree``: join pairs that can change a bar; ``all``: join all.
    start
        Of the paths between them: ``straight``; ``bent``, by a third of their length in random directions;
        ``constant``: over networks whose prediction is the same for all rows, see `topolandscape.paths_over_constant`.
    explore
        Rounds in which other pairs are tried for the highest passes, in the first 85 % of what is allowed.
    seconds
        Time after which no new path is begun; what was found until then counts. Such a result depends on the speed
        of the machine. None: a hundred rounds, or until there is nothing left to try.
    evaluations
        Number of evaluations of the loss, its gradient or a Hessian product at one point after which no new path is
        begun. None: a hundred rounds, or until there is nothing left to try.
    region
        Route ``sample``, and so on to `max_dim`: ``plane`` through three trained points; ``random``: plane along two
        random filter-normalised directions through a trained point; ``pca``: plane of the principal directions of a
        training trajectory; ``segment`` between two trained points; ``box`` of all parameters; ``ball`` around a
        trained point; ``hull`` of trained points; ``grid`` over all parameters, of few of them.
    resolution
        Points along each axis of a plane, segment or grid.
    margin
        How far a plane or segment reaches beyond its points, as a share of their extent.
    points
        Number of points of a box, ball or hull.
    low, high
        Sides of a box or grid.
    axes
        Of a grid, instead of `low`, `high` and `resolution`: ``low:high:points`` of each parameter, with commas
        between.
    radius
        Half-width of a random plane (in units of the weights' own length), or radius of a ball.
    enlarge
        Factor by which the volume of a hull grows.
    below
        Keep only points of a box, ball or hull whose loss is below this.
    starts
        Descents for a hull; other regions take as many as they need (1 to 3).
    neighbours
        Join each scattered point to this many nearest ones. None: triangulate up to 3 dimensions, 8 d neighbours
        above.
    connect
        Join the components of a graph of neighbours by the shortest links that are missing.
    edge_points
        Points between two neighbours, scattered ones, at which the loss is evaluated to see a ridge there. 0: an edge
        enters with its higher end. None: 3 for a hull, whose first points are the minima themselves, else 0.
    connectivity
        Which points of a plane, segment or grid are neighbours. None: ``full``; beyond 4 parameters, where those are
        hundreds, ``axis``.
    nonfinite
        ``raise``: refuse NaN and infinite losses; ``infinite``: such points never enter the filtration.
    max_dim
        Highest degree of homology.
    memory
        GiB that a grid may take. One that takes more is never in memory as a whole: its losses lie on the disk, and
        its barcode is found block by block, the same to the bit, in degree 0. None: 4. Results do not depend on it.
        Also that the edges between scattered points may take: beyond it their neighbours are found block by block and
        kept on the disk, if no edges are measured or added; exactly, where in memory they may be found nearly.
    seed
        Of everything that is drawn.
    device, dtype
        Where and in which precision the network is evaluated. None: on the processor, as the network is.

    Examples
    --------
    >>> Recipe(model="mlp:64-16-10", data="digits").folder_name()
    'mlp-64-16-10_digits_minima_seed0'
    >>> Recipe(model="mlp:64-16-10", data="digits", region="box")
    Traceback (most recent call last):
    ValueError: region belongs to the route sample, and the route is minima; leave it out, or give the route sample.
    """

    model: str
    data: str
    loss: str | None = None
    weight_decay: float = 0.0
    route: Route = "minima"
    steps: int | None = None
    learning_rate: float = 0.01
    minima: int | None = None
    checkpoints: tuple[str, ...] = ()
    method: Method = "adam"
    momentum: float = 0.9
    schedule: Schedule = "cosine"
    warm_up: int = 0
    batch: int | None = None
    record_every: int | None = None
    tolerance: float = 1e-5
    max_evaluations: int = 5000
    merge: float = 1e-2
    modulo_symmetry: bool = False
    lower: Lower = "any"
    pairs: Pairs = "tree"
    start: Start = "straight"
    explore: int = 1000
    seconds: float | None = None
    evaluations: int | None = None
    region: Region = "plane"
    resolution: int = 101
    margin: float = 0.25
    points: int = 20_000
    low: float = -1.0
    high: float = 1.0
    axes: str | None = None
    radius: float = 1.0
    enlarge: float = 1.1
    below: float | None = None
    starts: int = 5
    neighbours: int | None = None
    connect: bool = False
    edge_points: int | None = None
    connectivity: Connectivity | None = None
    nonfinite: Nonfinite = "raise"
    max_dim: int = 0
    memory: float | None = None
    seed: int = 0
    device: str | None = None
    dtype: str | None = None

    def __post_init__(self) -> None:
        """Refuse what cannot be computed before anything is."""
        choices: dict[str, tuple[str, ...]] = {
            "route": get_args(Route),
            "method": get_args(Method),
            "schedule": get_args(Schedule),
            "lower": get_args(Lower),
            "pairs": get_args(Pairs),
            "start": get_args(Start),
            "region": REGIONS,
            "connectivity": CONNECTIVITIES,
            "nonfinite": get_args(Nonfinite),
        }
        for name, allowed in choices.items():
            if getattr(self, name) not in allowed and (name, getattr(self, name)) != ("connectivity", None):
                raise ValueError(f"{name} is {getattr(self, name)!r}; it must be one of {', '.join(allowed)}.")
        defaults = {field.name: field.default for field in fields(self)}
        for route, options in ROUTES.items():
            for name in options if route != self.route else ():
                if getattr(self, name) != defaults[name]:
                    raise ValueError(
                        f"{name} belongs to the route {route}, and the route is {self.route}; leave it out, or give "
                        f"the route {route}."
                    )
        least = {
            **{"resolution": 2, "points": 2, "starts": 2, "neighbours": 1, "edge_points": 0, "max_dim": 0},
            **{"steps": 1 if self.route == "sample" else 0, "warm_up": 0, "batch": 1, "record_every": 1},
            **{"tolerance": 0, "max_evaluations": 1, "merge": 0, "explore": 0},
            **{"seconds": 0, "evaluations": 0},
        }
        for name, bound in least.items():
            value = getattr(self, name)
            if value is not None and not value >= bound:
                raise ValueError(f"{name} is {value}; it must be at least {bound}.")
        if self.memory is not None and not self.memory > 0:
            raise ValueError(f"memory is {self.memory} GiB; it must be above 0.")
        if self.axes is not None and self.region != "grid":
            raise ValueError(f"axes are those of a grid, and the region is {self.region}; leave them out.")
        self.sides()
        if self.checkpoints and self.minima is not None:
            raise ValueError("minima and checkpoints are both given; there are as many minima as checkpoints.")
        files = tuple(self.checkpoints)
        twice = [file for file in files if files.count(file) > 1]
        if twice:
            raise ValueError(f"the checkpoint {twice[0]} is given {files.count(twice[0])} times; give it once.")
        if self.n_starts() < 2:
            raise ValueError(
                f"there is {self.n_starts()} {'checkpoint' if self.checkpoints else 'descent'}; a network of minima "
                "needs at least two."
            )

    def n_starts(self) -> int:
        """Return how many descents there are on the route through minima."""
        return len(self.checkpoints) or (16 if self.minima is None else self.minima)

    def n_steps(self) -> int:
        """Return how many steps each descent takes."""
        return self.steps if self.steps is not None else 0 if self.checkpoints else 1000

    def points_on_edges(self) -> int:
        """Return how many points of each edge between scattered samples are evaluated."""
        if self.edge_points is None:
            return 3 if self.region == "hull" else 0
        return self.edge_points

    def neighbours_of(self, d: int) -> Connectivity:
        """Return which points of a grid of d coordinates are neighbours."""
        return self.connectivity or ("full" if d <= _ALL_AROUND else "axis")

    def sides(self) -> tuple[Any, Any, Any]:
        """Return low, high and the number of points of a grid: numbers, or one for each parameter."""
        if self.axes is None:
            return self.low, self.high, self.resolution
        try:
            parts = [side.split(":") for side in self.axes.split(",")]
            low, high, n = zip(*((float(low), float(high), int(n)) for low, high, n in parts), strict=True)
            return low, high, n
        except ValueError:
            raise ValueError(
                f"axes are {self.axes!r}; give low:high:points of each parameter, with commas between, as "
                "-3:3:14,0:1:10."
            ) from None

    def settings(self) -> dict[str, Any]:
        """Return what this recipe's route reads and decides the result, without what may be asked anew."""
        others = {name for route, options in ROUTES.items() if route != self.route for name in options}
        undecided = {*others, *ANEW[self.route], "memory"}
        names = [field.name for field in fields(self) if field.name not in undecided]
        said = {name: getattr(self, name) for name in names} | {"steps": self.n_steps()}
        if self.route == "minima":
            said |= {"minima": self.n_starts(), "checkpoints": list(self.checkpoints)}
        return {name: value for name, value in said.items() if value is not None}

    def asked_anew(self) -> dict[str, Any]:
        """Return what a finished run may be asked anew with other values of."""
        said = {name: getattr(self, name) for name in ANEW[self.route]}
        return {name: value for name, value in said.items() if value is not None}

    def folder_name(self) -> str:
        """Return a folder name that tells runs of different models, data, routes or regions, and seeds apart."""
        where = self.region if self.route == "sample" else self.route
        words = "_".join((self.model, self.data, where, f"seed{self.seed}"))
        return "".join(c if c.isalnum() or c in "-_." else "-" for c in words)
