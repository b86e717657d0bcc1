"""Static pictures of barcodes, merge trees and landscapes.

Every function draws on the axes it is given, or on those of a new figure, and returns them. Nothing is shown,
written to disk or styled globally. Names are imported when first used; matplotlib when first drawn with.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
