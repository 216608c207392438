"""Factors: into how many parts a coarse cell and a coarse step are split.

In space a factor is one number, or a pair of them, one for y and one for x. What takes
more than a network has learned is done in stages, each of them within its limits.
"""

from collections.abc import Iterator
from math import isqrt, sqrt
from operator import index
from typing import Any

from xstsr.errors import FactorError
from xstsr.typing import Factor, Space


def read_factor(s: Space, t: int) -> Factor:
    """Check the factors and give them as (t, sy, sx).

    Parameters
    ----------
    s : int or tuple of int
        In space, 1 or more: for both axes, or (y, x).
    t : int
        In time, 1 or more.

    Raises
    ------
    FactorError
        One of them is no whole number, or below 1.

    Examples
    --------
    >>> read_factor(10, 3), read_factor((5, 10), 3)
    ((3, 10, 10), (3, 5, 10))
    """
    pair = s if isinstance(s, tuple) and len(s) == 2 else (s, s)
    for name, value, numbers in (("s", s, pair), ("t", t, (t,))):
        if not all(is_whole(n, least=1) for n in numbers):
            raise FactorError(
                f"cannot use {name}={value!r}: a factor is a whole number of "
                "1 or more, such as s=10, t=3, or s=(5, 10) for y and x."
            )
    return index(t), index(pair[0]), index(pair[1])


def is_whole(value: Any, *, least: int) -> bool:
    """Tell whether a value counts: no float, no flag, not below the least."""
    try:
        return not isinstance(value, bool) and index(value) >= least
    except TypeError:
        return False


def parse_space(text: str) -> Space:
    """Read a factor in space, "10" or "5,10" (y, x), as on the command line.

    Raises
    ------
    FactorError
        The text is of another form.

    Examples
    --------
    >>> parse_space("10"), parse_space("5,10")
    (10, (5, 10))
    """
    try:
        numbers = [int(part) for part in text.split(",")]
        sy, sx = numbers * 2 if len(numbers) == 1 else numbers
    except ValueError as error:
        raise FactorError(
            f"cannot read the factor {text!r}: write one whole number, 10, or those "
            "of y and x, 5,10."
        ) from error
    return space_of((1, sy, sx))


def sides(s: Space) -> tuple[int, int]:
    """Give a factor in space as the pair (y, x)."""
    return s if isinstance(s, tuple) else (s, s)


def space_of(factor: Factor) -> Space:
    """Take the factor in space: a number where y and x agree, else the pair."""
    _, sy, sx = factor
    return sy if sy == sx else (sy, sx)


def size_of(s: Space) -> float:
    """Give one number for a factor in space: the geometric mean of y and x.

    Examples
    --------
    >>> size_of(10), size_of((4, 9))
    (10.0, 6.0)
    """
    sy, sx = sides(s)
    return sqrt(sy * sx)


def in_words(s: Space) -> int | str:
    """Say a factor in space in an attribute or on a card.

    Examples
    --------
    >>> in_words(10), in_words((5, 10))
    (10, '5 x 10')
    """
    sy, sx = sides(s)
    return sy if sy == sx else f"{sy} x {sx}"


def from_words(told: int | str) -> Space:
    """Read what `in_words` has said.

    Examples
    --------
    >>> from_words(10), from_words("5 x 10")
    (10, (5, 10))
    """
    if not isinstance(told, str):
        return int(told)
    sy, sx = map(int, told.split(" x "))
    return sy, sx


def said(factor: Factor) -> str:
    """Say a whole factor.

    Examples
    --------
    >>> said((3, 5, 10))
    's=5 x 10, t=3'
    """
    return f"s={in_words(space_of(factor))}, t={factor[0]}"


def name_of(s: Space, t: int) -> str:
    """Name a factor in a table.

    Examples
    --------
    >>> name_of(10, 3), name_of((5, 10), 3)
    ('10x3', '5x10x3')
    """
    sy, sx = sides(s)
    return f"{sy}x{t}" if sy == sx else f"{sy}x{sx}x{t}"


def stages(factor: Factor, most: tuple[int, int]) -> list[Factor]:
    """Split a factor into one stage or two that a network knows.

    Parameters
    ----------
    factor : tuple of int
        (t, sy, sx).
    most : tuple of int
        Largest factor of a stage in time, and in space.

    Returns
    -------
    list of tuple of int
        Their product, axis by axis, is the factor. Two stages are as nearly equal as
        whole numbers allow, the smaller one first.

    Raises
    ------
    FactorError
        An axis is no product of two numbers within the limits.

    Examples
    --------
    >>> stages((3, 10, 10), (6, 25))
    [(3, 10, 10)]
    >>> stages((12, 50, 50), (6, 25))
    [(3, 5, 5), (4, 10, 10)]
    """
    limits = (most[0], most[1], most[1])
    if all(n <= limit for n, limit in zip(factor, limits, strict=True)):
        return [factor]
    pairs = []
    for name, n, limit in zip(("t", "s", "s"), factor, limits, strict=True):
        pair = next(_pairs(n, limit), None)
        if pair is None:
            near = " or ".join(map(str, _nearest(n, limit)))
            raise FactorError(
                f"cannot upscale with {name}={n}: the model refines at most {limit} "
                f"times at once, and {n} is no product of two numbers up to {limit}. "
                f"Choose {near} instead, or method='rainfarm' or 'linear', which take "
                "any."
            )
        pairs.append(pair)
    (t0, t1), (y0, y1), (x0, x1) = pairs
    return [(t0, y0, x0), (t1, y1, x1)]


def _pairs(n: int, limit: int) -> Iterator[tuple[int, int]]:
    """Write n as products of two numbers up to a limit, the most equal one first."""
    if n <= limit**2:
        for small in range(isqrt(n), 0, -1):
            if n % small == 0 and n // small <= limit:
                yield small, n // small


def _nearest(n: int, limit: int) -> list[int]:
    """Find the numbers around n that can be split."""
    below = range(min(n - 1, limit**2), 0, -1)
    above = range(n + 1, limit**2 + 1)
    found = (
        next((k for k in side if any(_pairs(k, limit))), None)
        for side in (below, above)
    )
    return [k for k in found if k is not None]
