"""Do the work: in memory, as a Dask graph, on a cluster.

- `window`: draw one window; join and conserve what windows drew
- `graph`: the tasks, as plain tuples
- `run`: a whole field, now or later
- `cluster`: where a graph is computed

Arrays only; Dask is imported late. Stands on `planning`, below `pipeline`.
"""
