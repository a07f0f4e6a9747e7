"""Pictures of results: figures by hvplot, and the report that holds them."""

from geomsae.pictures.report import write_report

__all__ = ["write_report"]
