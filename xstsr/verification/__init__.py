"""Scores of an ensemble against a truth, on arrays.

- `scores`: CRPS, errors, spread, ranks, quantiles, wet area
- `spatial`: FSS, PSNR, SSIM, persistence, seams
- `spectra`: power in space and time, and distances between spectra
- `diagnostics`: curves from which pictures are drawn
- `table`: `score_table`, all of them by name

NumPy and SciPy alone; no labels. Stands on `conservation`; `plot` and `evaluation` use
it.
"""
