"""Whether an ensemble should be trusted, by a stated rule.

The scores of one evaluation come in, a verdict comes out. The rule:

1. At least 1000 pixels of the truth are wet (0.1 mm/h or more), else there is *no
   verdict*: chance would decide.
2. **Water** and **skill** are asked of everything. The largest relative residual of a
   coarse cell is at most 1e-5, and the fair CRPS is below every baseline's. If not:
   *do not trust*.
3. The rest is asked of an ensemble that stands for the truth: **spread** over error
   from 0.8 to 1.25, **extremes** (the 99.9 % quantile over the truth's) from 0.75 to
   1.33, **wet area** over the truth's from 0.8 to 1.25, spectra in **space** and
   **time** within half a decade of the truth's, that is a factor of three in power, and
   **seams**, the jumps between coarse cells and between coarse steps, at most 1.25 of
   the truth's there. If all hold: *trust*. If not: *use with care*, for what does not
   need what fails.

Fields that are not rain have no wet area and no extremes of their own; for them 1. asks
for 1000 pixels, and the last two of the ratios are left out. What cannot be computed,
the time spectrum of three steps for example, is not judged, and the verdict says so.
Plain values only; the scores are those of `xstsr.verification.scores.score_table`.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from xstsr.errors import DataError

Grade = Literal["trust", "care", "no", "unknown"]
Scores = Mapping[str, Mapping[str, float]]

LEAST_PIXELS = 1000
LARGEST_RESIDUAL = 1e-5
LARGEST_SEAM = 1.25
BELOW_ONE = math.nextafter(1.0, 0.0)

HEADLINES: dict[Grade, str] = {
    "trust": "Trust it",
    "care": "Use it with care",
    "no": "Do not trust it",
    "unknown": "No verdict",
}


@dataclass(frozen=True)
class Check:
    """One part of the rule.

    Parameters
    ----------
    name : str
        What is judged, in a word or two.
    value : float
        What was found; NaN where it could not be computed.
    low, high : float
        What is allowed, ends included.
    told : str
        What the value is, as a phrase.
    needed : bool
        Whether a failure means "do not trust".

    Examples
    --------
    >>> check = Check("spread", 1.4, 0.8, 1.25, "spread 1.40 of the error")
    >>> check.passed, check.allowed
    (False, '0.8 to 1.25')
    """

    name: str
    value: float
    low: float
    high: float
    told: str
    needed: bool = False

    @property
    def passed(self) -> bool | None:
        """Whether the value is allowed; None where there is none."""
        if math.isnan(self.value):
            return None
        return self.low <= self.value <= self.high

    @property
    def allowed(self) -> str:
        """What is allowed, in words."""
        if self.high == BELOW_ONE:
            return "below 1"
        if self.low == 0:
            return f"at most {self.high:g}"
        return f"{self.low:g} to {self.high:g}"


@dataclass(frozen=True)
class Verdict:
    """What the rule says of one method at one factor and spacing.

    Parameters
    ----------
    grade : str
        ``"trust"``, ``"care"``, ``"no"`` or ``"unknown"``.
    checks : tuple of Check
        Every part of the rule.
    sentence : str
        The verdict, and which part fails.

    Examples
    --------
    >>> check = Check("spread", 1.4, 0.8, 1.25, "spread 1.40 of the error")
    >>> Verdict("care", (check,), "Use it with care at s=4: spread fails.").headline
    'Use it with care'
    """

    grade: Grade
    checks: tuple[Check, ...]
    sentence: str

    @property
    def headline(self) -> str:
        """The verdict in a few words."""
        return HEADLINES[self.grade]


def judge(
    scores: Scores,
    method: str,
    baselines: Sequence[str],
    *,
    where: str,
    pixels: int,
    is_rain: bool = True,
) -> Verdict:
    """Apply the rule of this module.

    Parameters
    ----------
    scores : mapping of method to mapping of score to float
        From `xstsr.verification.scores.score_table`.
    method : str
        Which method is judged.
    baselines : sequence of str
        What it has to beat; those without scores are left out.
    where : str
        Factor and spacing, for the sentence: "s=4, t=2 (4 km to 1 km)".
    pixels : int
        Wet pixels and steps of the truth; all of them where it is no rain.
    is_rain : bool
        Whether there is a wet area.

    Returns
    -------
    Verdict

    Raises
    ------
    DataError
        There are no scores of the method, or of any baseline.

    Examples
    --------
    >>> good = {"largest_residual": 1e-7, "fair_crps": 0.6, "spread_skill": 1.0}
    >>> good |= {"log_spectral_distance": 0.1, "temporal_spectral_distance": 0.2}
    >>> scores = {"diffusion": good, "linear": {"fair_crps": 1.0}}
    >>> verdict = judge(
    ...     scores, "diffusion", ["linear"], where="s=4", pixels=5000, is_rain=False
    ... )
    >>> verdict.grade
    'trust'
    """
    rivals = {name: scores[name]["fair_crps"] for name in baselines if name in scores}
    rivals.pop(method, None)
    if method not in scores or not rivals:
        raise DataError(
            f"cannot judge {method!r}: there are scores of {sorted(scores)}, and it "
            f"takes those of {method!r} and of a baseline. Evaluate both."
        )
    checks = _checks(scores[method], rivals, is_rain)
    failed = [check for check in checks if check.passed is False]
    grade: Grade = "care" if failed else "trust"
    if any(check.needed and not check.passed for check in checks):
        grade = "no"
    if pixels < LEAST_PIXELS or math.isnan(checks[1].value):
        grade = "unknown"
    return Verdict(grade, checks, _sentence(grade, checks, where, pixels, is_rain))


def _checks(
    own: Mapping[str, float], rivals: Mapping[str, float], is_rain: bool
) -> tuple[Check, ...]:
    best = min(rivals, key=lambda name: rivals[name])
    ratio = own["fair_crps"] / rivals[best] if rivals[best] > 0 else math.nan
    residual = own["largest_residual"]
    found = [
        Check(
            "water",
            residual,
            0.0,
            LARGEST_RESIDUAL,
            f"largest relative residual {residual:.1e}",
            needed=True,
        ),
        # below, not equal: a tie is no skill
        Check(
            "skill",
            ratio,
            0.0,
            BELOW_ONE,
            f"fair CRPS {ratio:.2f} of that of {best!r}, the best baseline",
            needed=True,
        ),
    ]
    ranges = [("spread", "spread_skill", 0.8, 1.25, "spread {:.2f} of the error")]
    if is_rain:
        ranges += [
            ("extremes", "q99.9_ratio", 0.75, 1.33, "q99.9 {:.2f} of the truth's"),
            ("wet area", "wet_area_ratio", 0.8, 1.25, "{:.2f} of the truth's"),
        ]
    ranges += [
        ("space", "log_spectral_distance", 0.0, 0.5, "spectrum {:.2f} decades off"),
        ("time", "temporal_spectral_distance", 0.0, 0.5, "spectrum {:.2f} decades off"),
    ]
    for name, score, low, high, words in ranges:
        value = float(own.get(score, math.nan))
        found.append(Check(name, value, low, high, words.format(value)))
    return (*found, _seams(own))


def _seams(own: Mapping[str, float]) -> Check:
    """Judge the worse of the jumps in space and in time."""
    named = {"cells": "seam_space", "steps": "seam_time"}
    jumps = {name: float(own.get(score, math.nan)) for name, score in named.items()}
    known = {name: jump for name, jump in jumps.items() if not math.isnan(jump)}
    each = ", ".join(f"between {name} {jump:.2f}" for name, jump in known.items())
    told = f"jumps {each} of the truth's" if known else "nothing to compare"
    largest = max(known.values(), default=math.nan)
    return Check("seams", largest, 0.0, LARGEST_SEAM, told)


def _sentence(
    grade: Grade, checks: Sequence[Check], where: str, pixels: int, is_rain: bool
) -> str:
    """Say the verdict in one sentence, with what fails and what was not judged."""
    start = f"{HEADLINES[grade]} at {where}"
    if pixels < LEAST_PIXELS:
        kind = "wet pixels" if is_rain else "pixels"
        return f"{start}: the truth has {pixels} {kind}, and it takes {LEAST_PIXELS}."
    if grade == "unknown":
        return f"{start}: the best baseline makes no error, so nothing can be better."
    skill = checks[1]
    failed = [check for check in checks if check.passed is False]
    parts = [f"{c.name} ({c.told}; allowed {c.allowed})" for c in failed if c != skill]
    if not skill.passed:
        parts.insert(0, f"skill ({skill.told})")
    unjudged = [check.name for check in checks if check.passed is None]
    rest = f"; not judged: {', '.join(unjudged)}" if unjudged else ""
    if not failed:
        return f"{start}: {skill.told}, and every part of the rule holds{rest}."
    good = f"{skill.told}, but " if skill.passed else ""
    verb = "fails" if len(parts) == 1 else "fail"
    return f"{start}: {good}{_joined(parts)} {verb}{rest}."


def _joined(parts: Sequence[str]) -> str:
    return " and ".join(filter(None, [", ".join(parts[:-1]), parts[-1]]))
