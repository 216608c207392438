"""What a method is asked for: a request, the same for every window, and one window.

Plain values and arrays only.
"""

from dataclasses import dataclass

from xstsr.geometry.globe import Globe
from xstsr.memory import BYTES_PER_PIXEL, BYTES_PER_PIXEL_AT_ONCE
from xstsr.methods.recipe import Recipe
from xstsr.typing import Array


@dataclass(frozen=True)
class Request:
    """What was asked for, the same for every window.

    Parameters
    ----------
    method : str
        A name in `METHODS`.
    factor : tuple of int
        (t, sy, sx).
    spacing_km, step_minutes : float
        Of the fine grid.
    recipe : Recipe
        beta, context and taper.
    realizations : tuple of int
        Which members of the ensemble; a single-valued method gives one field.
    seed : int
        Of the noise.
    model : str
        Name or absolute path of a checkpoint: it travels by reference.
    fingerprint : str
        The checkpoint's sha256, so that another file is not taken for it; empty for
        methods that need none.
    steps : int or None
        Evaluations of the denoiser per sample; None where there is none.
    sampler : str or None
        A name in `SAMPLERS`, likewise.
    attends : bool
        Whether the generator has attention over frames, for which L counts.
    device : str
        Where networks run.
    salt : int
        Tells the networks' noise of one variable from that of another.
    globe : Globe or None
        How the coarse grid closes on itself.
    """

    method: str
    factor: tuple[int, int, int]
    spacing_km: float
    step_minutes: float
    recipe: Recipe
    realizations: tuple[int, ...] = (0,)
    seed: int = 0
    model: str = "default"
    fingerprint: str = ""
    steps: int | None = None
    sampler: str | None = None
    attends: bool = False
    device: str = "cpu"
    salt: int = 0
    globe: Globe | None = None

    @property
    def amplitude(self) -> float:
        """Amplitude of the noise over the rule's."""
        t, sy, sx = self.factor
        return self.recipe.amplitude((sy * sx) ** 0.5, t)

    @property
    def is_neural(self) -> bool:
        """Whether the method needs a checkpoint."""
        return bool(self.fingerprint)

    @property
    def needs_mean(self) -> bool:
        """Whether the conditional mean is computed.

        The generator needs it only where the noise has another amplitude than the
        rule's.
        """
        if self.method == "generator":
            return self.amplitude != 1
        return self.is_neural

    @property
    def bytes_per_pixel(self) -> int:
        """Memory that a network takes for a fine pixel."""
        return BYTES_PER_PIXEL if self.needs_mean else BYTES_PER_PIXEL_AT_ONCE

    @property
    def settings(self) -> dict[str, str | int | float]:
        """What decides on the result besides factor, model and seed, where it does.

        Returns
        -------
        dict
            The ``method``, and of ``steps``, ``sampler``, ``beta``, ``L`` and ``f``
            those that the method has used.
        """
        used: dict[str, str | int | float] = {"method": self.method}
        is_drawn = self.method == "diffusion" and self.amplitude > 0
        if is_drawn and self.steps is not None and self.sampler is not None:
            used |= {"steps": self.steps, "sampler": self.sampler}
        if self.needs_mean and self.method != "mean":
            used["beta"] = self.recipe.beta
        if self.needs_mean or self.attends:
            used["L"] = self.recipe.context
        if self.recipe.taper:
            used["f"] = str(self.recipe.taper)
        elif self.is_neural:
            used["f"] = "none"
        return used


@dataclass(frozen=True)
class Task:
    """One window and tile of a request.

    Parameters
    ----------
    request : Request
        What was asked for.
    coarse : ndarray, shape (T, Y, X)
        Coarse values [mm h-1 for rain], NaN where there are none.
    times : ndarray, shape (T t,), int64
        Start of each fine step [us since 1970].
    origin : tuple of int
        Absolute place of the first fine pixel (y, x).
    stream : int
        Which of the fields along further dimensions.
    kept : tuple of slice, optional
        Coarse frames and cells whose result is of use: the others are context.
    known : ndarray, shape (G, K, T t or 1, Y sy, X sx), optional
        Fine fields that the model needs, for each realization or one for all.
    """

    request: Request
    coarse: Array
    times: Array
    origin: tuple[int, int] = (0, 0)
    stream: int = 0
    kept: tuple[slice, ...] = ()
    known: Array | None = None

    @property
    def shape(self) -> tuple[int, int, int]:
        """Fine shape (T t, Y sy, X sx)."""
        t, y, x = self.coarse.shape
        ft, fy, fx = self.request.factor
        return t * ft, y * fy, x * fx

    @property
    def globe(self) -> Globe | None:
        """How the fine grid closes on itself."""
        coarse = self.request.globe
        return coarse and coarse.refined(*self.request.factor[1:])


@dataclass(frozen=True)
class Reach:
    """How far a method looks, and in which pattern.

    Parameters
    ----------
    frames : int
        Coarse frames of context on each side.
    pixels : int or None
        Fine pixels of context around a tile; None for methods that need whole frames.
    stride : int
        Fine pixels of a pixel of the lowest level, to whose multiples tiles are padded.
    bytes_per_pixel : int
        Memory that a fine pixel takes.
    """

    frames: int
    pixels: int | None = None
    stride: int = 1
    bytes_per_pixel: int = BYTES_PER_PIXEL

    @property
    def blend(self) -> int:
        """Coarse frames to either side of a window's boundary that are blended."""
        return min(self.frames, 1)
