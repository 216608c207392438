r"""Factors beyond those of a network, in two stages.

.. math:: Y = \mathcal{R}_2(\mathcal{R}_1(X))

The second stage takes what the first has made for its coarse field. Each conserves its
own coarse field, so both together conserve the first one. Realization k of the second
stage goes on from realization k of the first, with noise that is independent of it.
"""

import warnings
from collections.abc import Sequence
from dataclasses import replace
from math import prod
from os import PathLike
from typing import TYPE_CHECKING, Any

import numpy as np

from xstsr.cf.coords import refined
from xstsr.cf.meaning import Meaning
from xstsr.errors import AssumptionWarning
from xstsr.factors import said, size_of, space_of, stages
from xstsr.methods.recipe import Recipe, Taper, beta_rule
from xstsr.planning.job import Job
from xstsr.planning.request import limits_of, prepare
from xstsr.typing import Factor, Mode

if TYPE_CHECKING:
    pass


Jobs = tuple[Job, ...]


def plan_stages(
    meaning: Meaning,
    factor: Factor,
    *,
    method: str = "diffusion",
    model: str | PathLike[str] = "default",
    **options: Any,
) -> Jobs:
    """Plan the one stage or the two that a factor takes; options as in `upscale`.

    Parameters
    ----------
    meaning : Meaning
        Of the coarse field.
    factor : tuple of int
        (t, sy, sx).

    Returns
    -------
    tuple of Job
        In the order of the work.

    Raises
    ------
    XstsrError
        The options or the factors cannot be used.

    Warns
    -----
    AssumptionWarning
        There are two stages.
    """
    parts = stages(factor, limits_of(model, method))
    if len(parts) > 1:
        told = " and then ".join(map(said, parts))
        warnings.warn(
            f"{said(factor)} is more than the model refines at once: it is done in "
            f"two stages, {told}; see evaluate() before you trust it",
            AssumptionWarning,
            stacklevel=5,
        )
    return chain(meaning, parts, method=method, model=model, **options)


def chain(
    meaning: Meaning,
    parts: Sequence[Factor],
    *,
    conserve: Mode = "cell",
    recipe: Recipe | None = None,
    seed: int = 0,
    **options: Any,
) -> Jobs:
    """Plan given stages; options as in `upscale`.

    Parameters
    ----------
    meaning : Meaning
        Of the coarse field.
    parts : sequence of tuple of int
        (t, sy, sx) of each stage.
    conserve : str
        Totals of windows are those of the first stage; later ones keep every cell.
    recipe : Recipe, optional
        For all of it. In each stage the noise has the same ratio to the rule's and L
        counts that stage's coarse frames; f is for the last one alone.
    seed : int
        Of the first stage; those of later ones follow from it.

    Returns
    -------
    tuple of Job
        In the order of the work.
    """
    whole = _product(parts)
    jobs: list[Job] = []
    for i, part in enumerate(parts):
        if i:
            meaning = refined(meaning, space_of(parts[i - 1]), parts[i - 1][0])
        is_last = i == len(parts) - 1
        job = prepare(
            meaning,
            space_of(part),
            part[0],
            conserve="cell" if i and conserve == "window" else conserve,
            recipe=recipe and _share(recipe, whole, part, is_last=is_last),
            seed=_independent(seed, i) if i else seed,
            **options,
        )
        # from the second stage on, every realization has a coarse field of its own
        plan = replace(job.plan, group=1) if i else job.plan
        jobs.append(replace(job, plan=plan))
    return tuple(jobs)


def of_realizations(jobs: Jobs, numbers: tuple[int, ...]) -> Jobs:
    """Give the jobs that draw these realizations alone."""
    return tuple(
        replace(job, request=replace(job.request, realizations=numbers)) for job in jobs
    )


def settings_of(jobs: Jobs) -> dict[str, str | int | float]:
    """Put the settings of all stages together, as "5 then 3" where they differ.

    Parameters
    ----------
    jobs : tuple of Job
        From `plan_stages`.

    Returns
    -------
    dict
        As `Request.settings`.
    """
    stages = [job.request.settings for job in jobs]
    found: dict[str, str | int | float] = {}
    for key in dict.fromkeys(key for settings in stages for key in settings):
        values = [settings.get(key, "none") for settings in stages]
        several = len(set(values)) > 1
        found[key] = " then ".join(map(str, values)) if several else values[0]
    return found


def factor_of(jobs: Jobs) -> Factor:
    """Multiply the factors of all stages; (t, sy, sx)."""
    return _product([job.request.factor for job in jobs])


def _share(recipe: Recipe, whole: Factor, part: Factor, *, is_last: bool) -> Recipe:
    """Carry a recipe for a whole factor over to one stage of it."""
    if part == whole:
        return recipe
    amplitude = recipe.amplitude(size_of(space_of(whole)), whole[0])
    beta = amplitude * beta_rule(size_of(space_of(part)), part[0])
    taper = recipe.taper if is_last else Taper()
    return replace(recipe, beta=beta, taper=taper)


def _product(parts: Sequence[Factor]) -> Factor:
    """Multiply factors axis by axis."""
    t, sy, sx = map(prod, zip(*parts, strict=True))
    return t, sy, sx


def _independent(seed: int, stage: int) -> int:
    """Derive a later stage's seed; with equal noise in both they would be alike."""
    words = np.random.SeedSequence([seed, stage]).generate_state(1, np.uint64)
    return int(words[0])
