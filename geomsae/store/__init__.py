"""The Zarr store: decoders as published, and what was computed about them."""

from geomsae.store.store import Store, open_store

__all__ = ["Store", "open_store"]
