"""What CF metadata mean, and how a result is labelled.

- `meaning`: `Meaning`, what one field means, as plain values
- `read`: `read_meaning`, from a DataArray to its meaning
- `write`: `relabel`, `relabel_coarse`, `to_dataset`, back to labelled fields
- `quantity`: rate, amount or state
- `axes`: which dimension is time, y and x
- `coords`: coordinates of new cells; instants between others; pint in and out
- `times`: calendars, steps, and which part of a step its label is
- `units`: conversion to mm h-1
- `cell_methods`: the attribute, parsed and written
- `summary`: what ``da.stsr`` shows

Values are never touched but by `interpolate_instants`. Stands on `geometry`.
"""
