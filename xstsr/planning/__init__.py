"""From a meaning and a wish to the work of every window.

- `request`: options checked against the model and the field
- `stages`: one stage, or two for factors beyond a model's
- `job`: `Job`, what a window must know
- `tiling`: windows and tiles, as integers
- `predictors`: static and given fields, found and cut out
- `preview`: what the work will take, as a card

Nothing is computed. Stands on `methods`, below `execution`.
"""
