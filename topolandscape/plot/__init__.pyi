from .barcodes import bars as bars
from .barcodes import diagram as diagram
from .barcodes import merge_tree as merge_tree
from .landscapes import contour as contour
from .landscapes import profile as profile
from .landscapes import surface as surface
from .networks import convergence as convergence
from .networks import paths as paths
