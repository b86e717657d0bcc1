from . import plot as plot
from . import zoo as zoo
from .structures import Barcode as Barcode
from .structures import FilteredComplex as FilteredComplex
from .structures import GridComplex as GridComplex
from .structures import LossSamples as LossSamples
from .structures import MergeTree as MergeTree
from .structures import SimplicialComplex as SimplicialComplex
from .structures import Subspace as Subspace

__version__: str
