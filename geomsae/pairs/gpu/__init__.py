"""The tile kernel of a card: products by cuBLAS, and one pass over each tile by kernels of our own.

``kernels.cu`` is what runs on the card and ``launch`` what calls it. ``panels`` brings unit rows
there, ``product`` multiplies them in a precision, ``kept`` is a tally that lies there, and
``counter`` goes from tile to tile, so that the card never waits. ``card`` asks what there is.
"""

from geomsae.pairs.gpu.card import available, forget, keep_within
from geomsae.pairs.gpu.counter import AHEAD, counting
from geomsae.pairs.gpu.panels import make_panel

__all__ = ["AHEAD", "available", "counting", "forget", "keep_within", "make_panel"]
