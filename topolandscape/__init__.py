"""Topological data analysis of the loss landscapes of neural networks.

The public names are listed, one a line, in ``__init__.pyi``; each is imported when it is first used, so importing
the package is quick and loads neither torch nor matplotlib.
"""

import lazy_loader

__version__ = "0.1.0"

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
