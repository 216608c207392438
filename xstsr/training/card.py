"""The model card: what only people know, and over it what was measured.

What was measured takes the place of whatever the configuration's ``[card]`` says under
the same name, so that the card cannot be wrong about it.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from xstsr.diffusion.model import Model
from xstsr.training.record import Record
from xstsr.training.validation import Score

_METHODS = {"mean": "mean", "residual": "diffusion", "generator": "generator"}
_SCALARS = ("1", "ln s", "ln t", "ln spacing", "ln step")


def model_card(
    given: Mapping[str, Any],
    record: Record,
    model: Model,
    steps: Mapping[str, int],
    events: Sequence[str],
    scores: Sequence[Score] = (),
    past: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Write the model card: what the user says, and over it what was measured.

    Parameters
    ----------
    given : mapping
        Title, credits, licence, known failures: what only people know.
    record : Record
        Of the run.
    model : Model
        The model that the card belongs to.
    steps : mapping of str to int
        Steps of each stage so far.
    events : sequence of str
        Names of the training data.
    scores : sequence of Score
        Of the last validation, by factor.
    past : mapping, optional
        Card of the model that was fine-tuned: its data, steps and cost count too.

    Returns
    -------
    dict
        ``methods`` lists what the model can be used for: a network that was never
        trained draws nothing.
    """
    past = past or {}
    before = past.get("training steps", {})
    steps = {stage: n + before.get(stage, 0) for stage, n in steps.items()}
    measured: dict[str, Any] = {
        "quantity": model.spec.transform.quantity,
        "training data": [*dict.fromkeys([*past.get("training data", ()), *events])],
        "training steps": {stage: n for stage, n in steps.items() if n},
        "methods": [
            _METHODS[stage] for stage, n in steps.items() if n or stage == "mean"
        ],
    }
    if record.factors:
        s, t = (
            sorted({*(f[i] for f in record.factors), *past.get(key, ())})
            for i, key in enumerate(("s", "t"))
        )
        measured |= {
            "factors": f"s in {_listed(s)}; t in {_listed(t)}",
            "s": s,
            "t": t,
            "spacing_km": _range(record.spacing_km, past.get("spacing_km", ())),
            "step_minutes": _range(record.step_minutes, past.get("step_minutes", ())),
        }
    if steps["residual"]:
        fit = model.sigma_data.coefficients.tolist()
        measured["ln sigma_data"] = {
            name: round(c, 4) for name, c in zip(_SCALARS, fit, strict=True)
        }
    measured["cost"] = {
        device: f"{seconds / 3600:.2f} h" for device, seconds in record.seconds.items()
    }
    if past:
        measured["cost before fine-tuning"] = past.get("cost", {})
    if scores:
        measured["validation"] = {
            f"{x.s}x{x.t}": {
                name: round(value, 4)
                for name in ("rmse_ratio", "crps_ratio", "spread_skill")
                if math.isfinite(value := getattr(x, name))
            }
            for x in scores
        }
    # the credits of the data are owed whatever becomes of the weights
    inherited = {key: past[key] for key in ("credits", "licence") if key in past}
    return {**inherited, **given, **measured}


def _range(now: Sequence[float], before: Sequence[float]) -> list[float]:
    """Give the least and the largest of two ranges."""
    both = [*now, *before]
    return [round(min(both), 3), round(max(both), 3)]


def _listed(numbers: Sequence[int]) -> str:
    """Write sorted whole numbers shortly.

    Examples
    --------
    >>> _listed([1, 2, 3, 5, 9]), _listed([4])
    ('1-3, 5, 9', '4')
    """
    runs: list[list[int]] = []
    for n in numbers:
        if runs and n == runs[-1][-1] + 1:
            runs[-1].append(n)
        else:
            runs.append([n])
    return ", ".join(f"{r[0]}-{r[-1]}" if len(r) > 1 else str(r[0]) for r in runs)
