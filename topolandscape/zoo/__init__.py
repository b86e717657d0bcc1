"""Functions with known barcodes, named architectures, and data sets that need no download.

Names are imported when first used (see ``__init__.pyi``): the functions need numpy only, the networks torch, the
data sets scikit-learn.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
