"""Fine fields straight to Zarr, resumable.

- `store`: `to_zarr`
- `journal`: what a growing store has been asked for, and what is written
- `writer`: blocks of a graph into the store, and its publication

Stands on `pipeline`.
"""
