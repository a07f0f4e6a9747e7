"""The plan: which tiles cover every pair once, and which of them make up one task.

The grid of tiles belongs to the version of geomsae, not to a run: a product of another shape
rounds differently. How tiles are grouped into tasks does not matter to the counts.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

TILE = 2048
"""Rows and columns of a tile."""

LARGEST_SIDE = 8
"""Tiles along a side of the largest super-tile that processors are given."""

_TASKS_A_SIDE = 16


@dataclass(frozen=True, slots=True)
class SuperTile:
    """A block of neighbouring tiles: the unit that is scheduled, checked and added.

    Parameters
    ----------
    rows, cols : range
        Numbers of the tiles along each side.
    triangle : bool
        Whether both sides are the same features: then only tiles on and below the diagonal.
    """

    rows: range
    cols: range
    triangle: bool

    def tiles(self) -> Iterator[tuple[int, int]]:
        """The tiles in it, row by row."""
        for block, cols in self.walk(1):
            for col in cols:
                yield block.start, col

    def walk(self, held: int) -> Iterator[tuple[range, range]]:
        """The order of the work: blocks of rows that are held, and the columns that pass by them.

        Both rise, so that whoever comes first of two equal neighbours has the lower number.

        Parameters
        ----------
        held : int
            Rows of tiles in a block, at most.
        """
        for start in range(self.rows.start, self.rows.stop, held):
            block = range(start, min(start + held, self.rows.stop))
            yield block, range(self.cols.start, block.stop) if self.triangle else self.cols


def tiles_along(n: int) -> int:
    """How many tiles lie along `n` rows."""
    return -(-n // TILE)


def tile_rows(tile: int, n: int) -> tuple[int, int]:
    """The first row of a tile and the row after its last."""
    return tile * TILE, min((tile + 1) * TILE, n)


def span_rows(tiles: range, n: int) -> range:
    """The numbers of the rows of neighbouring tiles."""
    return range(tiles.start * TILE, min(tiles.stop * TILE, n))


def plan_triangle(n: int, side: int | None = None) -> list[SuperTile]:
    """Cover each unordered pair of `n` rows once.

    Large super-tiles come first, so that the last ones to finish are small.

    Parameters
    ----------
    n : int
        Rows.
    side : int, optional
        Tiles along a side of the largest super-tile; what suits processors by default.

    Examples
    --------
    >>> [sorted(s.tiles()) for s in plan_triangle(4096)]
    [[(1, 0)], [(0, 0)], [(1, 1)]]
    """
    spans = _spans(tiles_along(n), side)
    below = [SuperTile(rows, cols, False) for i, rows in enumerate(spans) for cols in spans[:i]]
    return below + [SuperTile(span, span, True) for span in spans]


def plan_rectangle(n: int, m: int, side: int | None = None) -> list[SuperTile]:
    """Cover each pair of one of `n` rows and one of `m` others once; see `plan_triangle`."""
    return [
        SuperTile(rows, cols, False)
        for rows in _spans(tiles_along(n), side)
        for cols in _spans(tiles_along(m), side)
    ]


def _spans(tiles: int, side: int | None) -> list[range]:
    """Cut a side into super-tiles."""
    if side is None:
        side = min(max(1, tiles // _TASKS_A_SIDE), LARGEST_SIDE)
    return [range(first, min(first + side, tiles)) for first in range(0, tiles, side)]


def pairs_in(super_tile: SuperTile, n: int, m: int) -> int:
    """How many pairs a super-tile covers, rows of zero norm among them.

    Parameters
    ----------
    super_tile : SuperTile
        The super-tile.
    n, m : int
        Rows on each side.
    """
    height, width = len(span_rows(super_tile.rows, n)), len(span_rows(super_tile.cols, m))
    return height * (height - 1) // 2 if super_tile.triangle else height * width
