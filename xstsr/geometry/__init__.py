"""Cells and shapes, as arrays of edges and corners.

- `cells`: edges, centres, areas and spacing of cells; labels that come back exactly
- `globe`: how a global grid closes at the date line and across the poles
- `projections`: from one map to another, by pyproj
- `polygons`: outlines of cells, and the areas that they share with a grid

NumPy alone, and pyproj where it is needed. No labels, no attributes. Stands on
`factors`; `cf`, `methods` and `regridding` use it.
"""
