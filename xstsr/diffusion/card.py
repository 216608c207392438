"""Model cards: what a model was trained on, for what, and where it fails."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from os import PathLike
from typing import Any

from xstsr import display


def models() -> list[dict[str, Any]]:
    """Describe the bundled models.

    Returns
    -------
    list of dict: ``name``, ``megabytes``, ``sha256`` and ``card``, its model card.

    Raises
    ------
    CheckpointError : a bundled file is damaged.

    Examples
    --------
    >>> [model["name"] for model in models()]
    ['default']
    """
    from xstsr.diffusion.checkpoint import available, find, fingerprint, read_card

    return [
        {
            "name": name,
            "megabytes": round(find(name).stat().st_size / 1e6, 1),
            "sha256": fingerprint(name),
            "card": read_card(name),
        }
        for name in available()
    ]


@dataclass(frozen=True)
class ModelCard:
    """What a model was trained on, for what, under which licence, and where it fails.

    Prints as text and shows as a card in Jupyter.

    Parameters
    ----------
    name : str
        Name or path of the model.
    facts : mapping of str to anything
        From the header of its file: what it was trained on, and how it samples.
    """

    name: str
    facts: Mapping[str, Any]

    @property
    def lines(self) -> list[tuple[str, str]]:
        """What the card says, as pairs of label and value."""
        return [(str(key), _words(value)) for key, value in self.facts.items()]

    def __repr__(self) -> str:
        return display.text(f"Model card of {self.name!r}", self.lines)

    def _repr_html_(self) -> str:
        return display.html(f"Model card of {self.name}", self.lines)


def model_card(name: str | PathLike[str] = "default") -> ModelCard:
    """Read the model card in a checkpoint, without its weights.

    Parameters
    ----------
    name : str or path
        A bundled model, or the path of a ``.safetensors`` file.

    Returns
    -------
    ModelCard

    Raises
    ------
    CheckpointError
        No such model, or no checkpoint of xstsr.

    Examples
    --------
    >>> model_card("default").facts["quantity"]
    'rain rate in mm h-1'
    """
    from xstsr.diffusion.checkpoint import read_card

    return ModelCard(os.fspath(name), read_card(name))


def _words(value: Any) -> str:
    """Write a value of a model card for people."""
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_words(inner)}" for key, inner in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(map(_words, value))
    return f"{value:.4g}" if isinstance(value, float) else str(value)
