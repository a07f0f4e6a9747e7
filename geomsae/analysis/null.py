"""What chance alone would give: the law of the cosine of two isotropic directions."""

from __future__ import annotations

from scipy.special import betainc


def isotropic_tail(d_model: int, threshold: float) -> float:
    """Probability that the cosine of two isotropic directions lies beyond a threshold.

    Parameters
    ----------
    d_model : int
        Dimensions of the space.
    threshold : float
        In [0, 1].

    Returns
    -------
    float
        P(abs(c) > t). For a cosine c in d dimensions, (1 + c) / 2 is distributed as
        Beta((d - 1) / 2, (d - 1) / 2), and hence 1 - c^2 as Beta((d - 1) / 2, 1 / 2); see Muirhead,
        Aspects of Multivariate Statistical Theory (1982), theorem 1.5.7. The regularised
        incomplete beta function of the latter keeps its precision far into the tail.

    Examples
    --------
    >>> f"{isotropic_tail(2304, 0.1):.4e}", f"{isotropic_tail(3584, 0.1):.4e}"
    ('1.5055e-06', '1.9678e-09')
    """
    if d_model == 1:
        return 1.0
    return float(betainc((d_model - 1) / 2, 0.5, 1 - threshold**2))
