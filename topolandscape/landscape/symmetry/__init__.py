"""What can be done to the parameters of a network without changing its loss; copies brought together.

Hidden units can be permuted; where the activation is odd their signs, and where it is positively homogeneous their
scales can be changed, each time with the weights that read them. `symmetry_of` finds these from the traced module,
`align`, `canonical` and `brought_together` use them.
"""

from topolandscape.landscape.symmetry.balance import canonical as canonical
from topolandscape.landscape.symmetry.elements import Element as Element
from topolandscape.landscape.symmetry.elements import Group as Group
from topolandscape.landscape.symmetry.elements import Place as Place
from topolandscape.landscape.symmetry.elements import Scaling as Scaling
from topolandscape.landscape.symmetry.elements import Symmetry as Symmetry
from topolandscape.landscape.symmetry.elements import apply as apply
from topolandscape.landscape.symmetry.elements import random_element as random_element
from topolandscape.landscape.symmetry.finding import symmetry_of as symmetry_of
from topolandscape.landscape.symmetry.matching import align as align
from topolandscape.landscape.symmetry.matching import align_by_activations as align_by_activations
from topolandscape.landscape.symmetry.matching import distance as distance
from topolandscape.landscape.symmetry.together import brought_together as brought_together
