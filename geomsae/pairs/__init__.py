"""The pair engine: every pair of directions once, in tiles, scheduled by Dask.

``plan`` says which tiles there are, ``panels`` holds normalised rows, ``cpu`` multiplies and bins
one tile, ``count`` checks what was counted, ``schedule`` hands the work to Dask, and ``cosine`` is
the lazy histogram of any matrix.
"""

from geomsae.pairs.cosine import cosine_histogram

__all__ = ["cosine_histogram"]
