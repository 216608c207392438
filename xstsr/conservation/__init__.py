"""The water of coarse cells: keep it, and weigh it.

- `blocks`: repeat and average blocks of fine cells, in memory or in chunks
- `constraint`: `conserve`, on arrays
- `balance`: `coarsen`, `conserve` and `check` of labelled fields
- `receipt`: `Receipt`, what each coarse cell has gained or lost

Stands on `cf`, below `verification`.
"""
