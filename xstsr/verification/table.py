"""The table of scores: one ensemble against one truth, by name."""

from collections.abc import Sequence

from xstsr.typing import Field
from xstsr.verification.scores import (
    fair_crps,
    largest_residual,
    quantile_ratio,
    rmse_of_mean,
    spread_skill,
    wet_area_ratio,
)
from xstsr.verification.spatial import (
    fss,
    lag1_correlation_error,
    psnr,
    seam_space,
    seam_time,
    ssim,
)
from xstsr.verification.spectra import log_spectral_distance, temporal_spectral_distance

FSS_THRESHOLDS = (1.0, 5.0, 10.0)  # mm h-1


def score_table(
    ensemble: Field,
    truth: Field,
    coarse: Field,
    factor: Sequence[int],
    weights: Field | None = None,
) -> dict[str, float]:
    """Gather every score of one event.

    Parameters
    ----------
    ensemble : ndarray, shape (M, T*t, Y*sy, X*sx)
        Realizations [mm h-1].
    truth : ndarray, shape (T*t, Y*sy, X*sx)
        Truth [mm h-1].
    coarse : ndarray, shape (T, Y, X)
        The coarse field that was refined [mm h-1].
    factor : sequence of int, (t, sy, sx)
        Fine pixels per coarse cell in time, y and x.
    weights : ndarray, shape broadcastable to (T*t, Y*sy, X*sx), optional
        Weights of the conservation [1]; the scores weigh all pixels equally.

    Returns
    -------
    dict of str to float
        Scores by name. The neighbourhood of the FSS is one coarse cell wide.

    Raises
    ------
    DataError
        If the shapes of ``ensemble`` and ``truth`` disagree or no pixel is valid.
    FactorError
        If ``ensemble`` is not ``factor`` times ``coarse``.

    Examples
    --------
    >>> import numpy as np
    >>> from xstsr.conservation.blocks import block_mean
    >>> draw = np.random.default_rng(0).gamma(0.5, 2.0, (3, 4, 8, 8))
    >>> ensemble, truth = draw[1:], draw[0]
    >>> table = score_table(ensemble, truth, block_mean(truth, (2, 4, 4)), (2, 4, 4))
    >>> table["fair_crps"] < table["rmse"]
    True
    """
    width = int(factor[-1]) | 1
    table = {
        "fair_crps": fair_crps(ensemble, truth),
        "rmse": rmse_of_mean(ensemble, truth),
        "spread_skill": spread_skill(ensemble, truth),
        "log_spectral_distance": log_spectral_distance(ensemble, truth),
        "temporal_spectral_distance": temporal_spectral_distance(ensemble, truth),
    }
    for threshold in FSS_THRESHOLDS:
        table[f"fss_{threshold:g}"] = fss(ensemble, truth, threshold, width)
    return table | {
        "q99_ratio": quantile_ratio(ensemble, truth, 0.99),
        "q99.9_ratio": quantile_ratio(ensemble, truth, 0.999),
        "wet_area_ratio": wet_area_ratio(ensemble, truth),
        "lag1_correlation_error": lag1_correlation_error(ensemble, truth),
        "seam_space": seam_space(ensemble, truth, factor),
        "seam_time": seam_time(ensemble, truth, factor),
        "psnr": psnr(ensemble, truth),
        "ssim": ssim(ensemble, truth),
        "largest_residual": largest_residual(ensemble, coarse, factor, weights),
    }
