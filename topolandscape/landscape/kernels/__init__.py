"""Losses and convolutions of many parameter vectors at once.

Values are stored wide: (c, channels, *positions, rows), torch's shape without its leading rows, one for each of c
vectors, the rows of the data last. What is done to one row is done to its neighbours, so the compiled loops run along
contiguous rows and fill the registers of the processor, whatever the network. They use one thread and release the
interpreter: the engine evaluates several chunks in threads of its own.

Compiled are float32 and float64 on the processor; other devices and dtypes take plain torch operations. Everything can
be differentiated twice by ``torch.autograd``.
"""

from topolandscape.landscape.kernels.convolution import convolution as convolution
from topolandscape.landscape.kernels.losses import cross_entropy as cross_entropy
from topolandscape.landscape.kernels.losses import squared_error as squared_error
