"""Every failure that a user can cause, each explained by its one sentence."""

from __future__ import annotations


class GeomsaeError(Exception):
    """A failure that one clear sentence explains: it names the thing and the way out."""


class SourceError(GeomsaeError):
    """A file, folder or repository does not hold the decoder that was asked for."""


class LinkError(SourceError):
    """A source elsewhere stopped answering: what was had of it is kept for the next run."""


class StoreError(GeomsaeError):
    """A store cannot be opened, read or written."""


class DamagedError(StoreError):
    """Something in a store is not what was written."""


class TakenError(StoreError):
    """Something is in the store already, put there by another run meanwhile."""


class BusyError(StoreError):
    """Another run is at it, and whoever asked would not wait."""


class UnreachableError(StoreError):
    """A store elsewhere stopped answering: what was made for it is kept for the next run."""


class SelectionError(GeomsaeError):
    """Nothing, or too much, answers to the labels that were asked for."""


class ThresholdError(GeomsaeError, ValueError):
    """A threshold does not lie on an edge of the bins."""


class DecoderError(GeomsaeError, ValueError):
    """A matrix cannot be a decoder: its rank, its type or its values forbid it."""


class DeviceError(GeomsaeError):
    """There is no such device, or it cannot do what was asked."""


class DeviceMemoryError(DeviceError):
    """A device has less memory than was asked of it."""


class ConservationError(GeomsaeError):
    """Counted pairs break a conservation law, so the count is not to be trusted."""
