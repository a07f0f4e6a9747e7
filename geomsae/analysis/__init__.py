"""What histograms say: functions of the labelled datasets, in xarray's manner."""

from geomsae.analysis.null import (
    expected_counts,
    isotropic_log_tail,
    isotropic_share,
    isotropic_tail,
    sampled_tail_spread,
    with_expected,
)
from geomsae.analysis.sparsity import at_common_l0, share_by_l0, slope_of_l0
from geomsae.analysis.tails import tail_fraction, tail_table
from geomsae.analysis.uncertainty import tail_difference, tail_error

__all__ = [
    "at_common_l0",
    "expected_counts",
    "isotropic_log_tail",
    "isotropic_share",
    "isotropic_tail",
    "sampled_tail_spread",
    "share_by_l0",
    "slope_of_l0",
    "tail_difference",
    "tail_error",
    "tail_fraction",
    "tail_table",
    "with_expected",
]
