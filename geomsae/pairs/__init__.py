"""The pair engine: every pair of directions once, in tiles, scheduled by Dask.

``plan`` says which tiles there are, ``panels`` holds normalised rows, ``cpu`` multiplies and bins
one tile on the thread that ``blas`` gives it, ``count`` checks what was counted, ``schedule`` hands
the work to Dask, ``cosine`` is the lazy histogram of any matrix, and ``stored`` counts a decoder
where it lies.
"""

from geomsae.pairs.cosine import cosine_histogram

__all__ = ["cosine_histogram"]
