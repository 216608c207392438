"""Conservative regridding, onto any grid.

- `frontend`: `regrid` of labelled fields, and `make_weights`
- `grid`: what a grid is, read from labelled data
- `targets`: what a target may be: a field, a spacing, a projection
- `overlap`: the weights between two grids, from the areas that their cells share
- `weights`: weights applied to arrays
- `weight_files`: files of weights, of ESMF, SCRIP, CDO and xesmf

Stands on `cf` and `geometry`.
"""
