"""What histograms say: functions of the labelled datasets, in xarray's manner."""

from geomsae.analysis.null import isotropic_tail
from geomsae.analysis.tails import tail_fraction, tail_table

__all__ = ["isotropic_tail", "tail_fraction", "tail_table"]
