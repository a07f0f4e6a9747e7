"""The pair engine: every pair of directions once, in tiles, scheduled by Dask.

``plan`` says which tiles there are, and ``budget`` what memory they are given. ``panels`` holds
normalised rows and ``cache`` keeps some of them. ``cpu`` multiplies one tile, on the thread that
``blas`` gives it, and takes it into a ``tally``, for which ``best`` keeps neighbours and pairs.
``count`` goes through a super-tile and checks what came out; ``schedule`` hands the work to Dask.
``cosine`` is the lazy histogram of any matrix, and ``stored`` counts a decoder where it lies.
"""
