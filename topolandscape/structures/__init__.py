"""The nouns of the package, their invariants, and the total order of simplices.

Every noun is a frozen record of numpy arrays: copied when made, read-only afterwards, checked once. Functions
elsewhere take one noun and return another.
"""

from topolandscape.structures.arrays import Floats as Floats
from topolandscape.structures.arrays import Integers as Integers
from topolandscape.structures.canonical import CanonicalForm as CanonicalForm
from topolandscape.structures.canonical import Chain as Chain
from topolandscape.structures.comparisons import BarBands as BarBands
from topolandscape.structures.comparisons import ConfidenceBand as ConfidenceBand
from topolandscape.structures.comparisons import DistanceMatrix as DistanceMatrix
from topolandscape.structures.complexes import CONNECTIVITIES as CONNECTIVITIES
from topolandscape.structures.complexes import Connectivity as Connectivity
from topolandscape.structures.complexes import FaceTable as FaceTable
from topolandscape.structures.complexes import FilteredComplex as FilteredComplex
from topolandscape.structures.complexes import GridComplex as GridComplex
from topolandscape.structures.complexes import SimplicialComplex as SimplicialComplex
from topolandscape.structures.complexes import ascending as ascending
from topolandscape.structures.complexes import total_order as total_order
from topolandscape.structures.descents import Descent as Descent
from topolandscape.structures.descents import Trajectories as Trajectories
from topolandscape.structures.minima import Minima as Minima
from topolandscape.structures.morse import CRITICAL as CRITICAL
from topolandscape.structures.morse import MANY as MANY
from topolandscape.structures.morse import NEVER as NEVER
from topolandscape.structures.morse import GradientField as GradientField
from topolandscape.structures.morse import MorseComplex as MorseComplex
from topolandscape.structures.network import PASSES as PASSES
from topolandscape.structures.network import Lower as Lower
from topolandscape.structures.network import MinimaNetwork as MinimaNetwork
from topolandscape.structures.network import PathProfile as PathProfile
from topolandscape.structures.results import Barcode as Barcode
from topolandscape.structures.results import MergeTree as MergeTree
from topolandscape.structures.results import common_scale as common_scale
from topolandscape.structures.samples import LossSamples as LossSamples
from topolandscape.structures.samples import Subspace as Subspace
from topolandscape.structures.samples import grid_points as grid_points
