"""Minima and saddles of functions by topsearch and pele, and their disconnectivity graphs of networks of minima.

Both are given the function and its gradient. Lengths are in units of the box, as in the examples of topsearch.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from problems import Counted

Array = np.ndarray
Run = Callable[[], dict[str, Array]]


# --------------------------------------------------------------------------------------------------------------
# topsearch: as in its example of the two-dimensional Schwefel function
# --------------------------------------------------------------------------------------------------------------


def topsearch(function: Array) -> Run:
    """Basin hopping, then elastic bands and eigenvector following between each minimum and its eight nearest."""
    from topsearch.data.coordinates import StandardCoordinates
    from topsearch.data.kinetic_transition_network import KineticTransitionNetwork
    from topsearch.global_optimisation.basin_hopping import BasinHopping
    from topsearch.global_optimisation.perturbations import StandardPerturbation
    from topsearch.potentials.potential import Potential
    from topsearch.sampling.exploration import NetworkSampling
    from topsearch.similarity.similarity import StandardSimilarity
    from topsearch.transition_states.hybrid_eigenvector_following import HybridEigenvectorFollowing
    from topsearch.transition_states.nudged_elastic_band import NudgedElasticBand

    def run() -> dict[str, Array]:
        counted = Counted(function)
        known = counted.known
        side = float((known.high - known.low).min())
        span = _span(known)
        np.random.seed(0)  # noqa: NPY002, topsearch draws from numpy's global state

        class Function(Potential):
            def function(self, position: Array) -> float:
                return counted.at(position)

            def gradient(self, position: Array, displacement: float = 0.0) -> Array:
                return counted.gradient_at(position)

        potential = Function()
        coordinates = StandardCoordinates(known.dimension, list(zip(known.low, known.high, strict=True)))
        same = StandardSimilarity(distance_criterion=0.01, energy_criterion=1e-2 * span, proportional_distance=True)
        network = KineticTransitionNetwork()
        hopping = BasinHopping(network, potential, same, StandardPerturbation(1.0, proportional_distance=True))
        following = HybridEigenvectorFollowing(
            potential,
            ts_conv_crit=1e-4,
            ts_steps=75,
            pushoff=1e-3 * side,
            max_uphill_step_size=0.02 * side,
            positive_eigenvalue_step=0.01 * side,
        )
        band = NudgedElasticBand(
            potential, force_constant=10.0, image_density=50.0 / side, max_images=50, neb_conv_crit=1e-2
        )
        explorer = NetworkSampling(network, coordinates, hopping, following, band, same)
        explorer.get_minima(coordinates, n_steps=_hops(known), conv_crit=1e-5, temperature=span, test_valid=True)
        explorer.get_transition_states("ClosestEnumeration", 8)
        ends = np.array(list(network.G.edges()), dtype=np.int64).reshape(-1, 2)
        return {
            "minima": _rows([network.get_minimum_coords(i) for i in range(network.n_minima)], known.dimension),
            "saddles": _rows([network.get_ts_coords(*pair) for pair in ends.tolist()], known.dimension),
            "ends": ends,
            "calls": np.array(counted.calls),
        }

    return run


def topsearch_network(births: Array, ends: Array, barriers: Array) -> Run:
    """Its connectivity graph, of which its disconnectivity graph is drawn, at 100 levels; deaths are levels."""
    from topsearch.data.kinetic_transition_network import KineticTransitionNetwork
    from topsearch.plotting.disconnectivity import get_connectivity_graph

    network = KineticTransitionNetwork()
    for i, birth in enumerate(births.tolist()):
        network.add_minimum(np.array([float(i)]), birth)
    for (i, j), barrier in zip(ends.tolist(), barriers.tolist(), strict=True):
        network.add_ts(np.array([0.0]), barrier, i, j)
    span = barriers.max() - births.min()
    start, finish, levels = barriers.max() + 0.05 * span, births.min() - 0.1 * span, 100

    def run() -> dict[str, Array]:
        tree = get_connectivity_graph(network, start, finish, levels)
        spacing = (start - finish) / levels
        bars = np.column_stack([births, np.full(len(births), np.inf)])
        for _, node in tree.nodes(data=True):  # from the highest level down: the last level shared with a lower one
            members = np.array(sorted(node["members"]))
            higher = members[births[members] > births[members].min()]
            bars[higher, 1] = start - node["level"] * spacing
        return {"bars": bars, "spacing": np.array(spacing)}

    return run


# --------------------------------------------------------------------------------------------------------------
# pele
# --------------------------------------------------------------------------------------------------------------


def pele(function: Array) -> Run:
    """Hop from ten random places into a database, then join all minima to the lowest one by double-ended searches."""
    from pele.landscape import ConnectManager
    from pele.potentials import BasePotential
    from pele.systems import BaseSystem
    from pele.takestep import RandomDisplacement

    def run() -> dict[str, Array]:
        counted = Counted(function)
        known = counted.known
        side, span, starts = known.high - known.low, _span(known), np.random.default_rng(0)
        np.random.seed(0)  # noqa: NPY002, pele draws from numpy's global state

        class Function(BasePotential):
            def getEnergy(self, coords: Array) -> float:
                return counted.at(coords)

            def getEnergyGradient(self, coords: Array) -> tuple[float, Array]:
                return counted.at(coords), counted.gradient_at(coords)

        class System(BaseSystem):
            def get_potential(self) -> Any:
                return Function()

            def get_random_configuration(self) -> Array:
                return starts.uniform(known.low, known.high)

            def get_compare_exact(self) -> Any:
                return lambda a, b: bool(np.linalg.norm((a - b) / side) < 1e-3)

            def get_mindist(self) -> Any:
                return lambda a, b: (np.linalg.norm(a - b), a, b)

            def get_orthogonalize_to_zero_eigenvectors(self) -> None:
                return None

        system = System()
        system.params.database.accuracy = 1e-5 * span
        system.params.structural_quench_params.update(tol=1e-6, maxstep=0.05 * side.min())
        local = system.params.double_ended_connect.local_connect_params
        local.tsSearchParams.update(max_uphill_step=0.02 * side.min(), nfail_max=200)
        local.pushoff_params.update(stepsize=1e-3 * side.min())
        local.NEBparams.update(image_density=50.0 / side.min(), max_images=50)
        database = system.create_database()
        for _ in range(10):  # from random places, since it knows no box
            step = RandomDisplacement(stepsize=0.5 * side.min())
            system.get_basinhopping(database, takestep=step, temperature=span, outstream=None).run(_hops(known) // 10)
        for minimum in database.minima():
            if not ((minimum.coords >= known.low) & (minimum.coords <= known.high)).all():
                database.removeMinimum(minimum)
        manager = ConnectManager(database, strategy="gmin", verbosity=0)
        for _ in range(2 * database.number_of_minima()):
            try:
                pair = manager.get_connect_job()
            except ConnectManager.NoMoreConnectionsError:
                break
            system.get_double_ended_connect(*pair, database, verbosity=0).connect()
        minima, passes = database.minima(), database.transition_states()
        row = {minimum.id(): i for i, minimum in enumerate(minima)}
        return {
            "minima": _rows([minimum.coords for minimum in minima], known.dimension),
            "saddles": _rows([saddle.coords for saddle in passes], known.dimension),
            "ends": np.array([(row[s.minimum1.id()], row[s.minimum2.id()]) for s in passes], int).reshape(-1, 2),
            "calls": np.array(counted.calls),
        }

    return run


def pele_network(births: Array, ends: Array, barriers: Array) -> Run:
    """Its disconnectivity graph at 100 levels; deaths are levels."""
    from pele.landscape import database2graph
    from pele.storage import Database
    from pele.utils.disconnectivity_graph import DisconnectivityGraph

    database = Database(accuracy=0.0)
    minima = [database.addMinimum(birth, np.array([float(i)])) for i, birth in enumerate(births.tolist())]
    for (i, j), barrier in zip(ends.tolist(), barriers.tolist(), strict=True):
        database.addTransitionState(barrier, np.array([0.0]), minima[i], minima[j])
    graph = database2graph(database)
    row = {minimum.id(): i for i, minimum in enumerate(minima)}

    def run() -> dict[str, Array]:
        made = DisconnectivityGraph(graph, nlevels=100)
        made.calculate()
        bars = np.column_stack([births, np.full(len(births), np.inf)])
        stack = [made.tree_graph]
        while stack:
            tree = stack.pop()
            members = np.array([row[minimum.id()] for minimum in tree.get_minima()])
            higher = members[births[members] > births[members].min()]
            if not tree.is_leaf():
                bars[higher, 1] = tree.data["ethresh"]
            stack += tree.get_branches()
        return {"bars": bars, "spacing": np.diff(made.energy_levels[:2])[0]}

    return run


# --------------------------------------------------------------------------------------------------------------


def _hops(known: Any) -> int:
    """Return enough hops to meet every minimum, as a rule."""
    return max(100, 20 * len(known.minima))


def _span(known: Any) -> float:
    """Return between what losses the minima and saddles lie, or one where there is one minimum."""
    losses = known.function(np.concatenate([known.minima, known.saddles]))
    return float(np.ptp(losses)) or 1.0


def _rows(points: list[Array], dimension: int) -> Array:
    return np.array(points, dtype=float).reshape(-1, dimension)
