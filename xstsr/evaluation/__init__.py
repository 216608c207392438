"""Judge a model on known fine fields.

- `protocol`: coarsen, upscale by every method, score; the table
- `recorder`: what the report draws, kept while ensembles pass
- `verdict`: the rule by which a model is to be trusted, or not
- `report`: `evaluate`, `Evaluation`
- `page`: the report as HTML or PNG

Stands on `pipeline` and `plot`.
"""
