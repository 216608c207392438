"""Whether a model knows a field, from the header of its checkpoint.

Plain values only: a header and a `Meaning` come in, and nothing or an error comes out.
"""

import warnings
from collections.abc import Mapping
from typing import Any

from xstsr.cf.meaning import AssumptionWarning, Meaning
from xstsr.cf.units import is_readable, registry
from xstsr.errors import CheckpointError, XstsrError

# the stage of the training that serves each method
_STAGES = {"mean": "mean", "diffusion": "residual", "generator": "generator"}


def check_knows(
    model: str, header: Mapping[str, Any], method: str, meaning: Meaning
) -> None:
    """Refuse a field that a model does not know, or what it was not trained for.

    Parameters
    ----------
    model : str
        Name or path, for the messages.
    header : mapping
        From `xstsr.diffusion.checkpoint.read_header`.
    method : str
        ``"mean"``, ``"diffusion"`` or ``"generator"``.
    meaning : Meaning
        Of the coarse field.

    Raises
    ------
    CheckpointError
        It has no network for this, or none that was trained.
    XstsrError
        The field is of another kind, or in other units.

    Warns
    -----
    AssumptionWarning
        The field is a state in the right units, but of another standard name.
    """
    from xstsr.diffusion.checkpoint import methods_of

    trained = methods_of(header)
    if method not in trained:
        raise CheckpointError(
            f"cannot upscale with method={method!r} and the model {model!r}: it was "
            f"trained for {list(trained)} alone. Choose one of these, or go on with "
            f"its training and {_STAGES[method]}_steps above 0."
        )
    field = f"{meaning.name!r} [{meaning.units}]"
    transform = header.get("spec", {}).get("transform", {})
    if "centre" in transform:
        _check_state(model, transform, method, meaning)
    elif meaning.kind == "state":
        raise XstsrError(
            f"cannot upscale {field} with method={method!r}: "
            f"the model {model!r} knows precipitation only. Use method='linear', or "
            "train a model on such fields: xstsr.train(fine)."
        )


def _check_state(
    model: str, transform: Mapping[str, Any], method: str, meaning: Meaning
) -> None:
    """Refuse rain and other units, and warn of another quantity."""
    known, units = transform.get("standard_name", ""), transform["units"]
    what = f"{known or 'a state'} in {units!r}"
    field = f"{meaning.name!r} [{meaning.units}]"
    if meaning.kind != "state":
        raise XstsrError(
            f"cannot upscale {field} with method={method!r}: "
            f"the model {model!r} knows {what}, and no rain. Pass model='default'."
        )
    if not same_units(meaning.units, units):
        raise XstsrError(
            f"cannot upscale {field} with method={method!r}: "
            f"the model {model!r} knows {what}. Convert the field first: "
            f"da.pint.quantify().pint.to({units!r}).pint.dequantify()."
        )
    name = str(meaning.attrs.get("standard_name", ""))
    if name and known and name != known:
        warnings.warn(
            f"the model {model!r} was trained on {known}, and {meaning.name!r} is "
            f"{name}; see evaluate() before you trust it",
            AssumptionWarning,
            stacklevel=7,
        )


def same_units(one: str, other: str) -> bool:
    """Tell whether two unit strings mean the same unit.

    Examples
    --------
    >>> same_units("metre", "m"), same_units("m", "km")
    (True, False)
    """
    if one == other:
        return True
    if not (is_readable(one) and is_readable(other)):
        return False
    return bool(registry().Unit(one) == registry().Unit(other))
