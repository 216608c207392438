r"""The whole generative model: mean network, residual denoiser, and how to sample.

.. math:: Y = T^{-1}\big(\mu_z(X) + \sigma_{data} \, R(X, \epsilon)\big)

`Model.condition` computes all that does not depend on chance, once for every
realization; `Model.sample` draws one by diffusion, and `Model.generate` one by the
generator.
"""

from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from xstsr.diffusion.denoiser import Condition, Denoiser, SigmaData
from xstsr.diffusion.features import Features, KnownField, features, known_maps
from xstsr.diffusion.generator import Generator
from xstsr.diffusion.guidance import LAST_ROUNDS, OVER, guide
from xstsr.diffusion.mean import MeanNetwork
from xstsr.diffusion.network import Architecture
from xstsr.diffusion.sampler import Fresh, Schedule, find_sampler, initial
from xstsr.diffusion.transform import LogTransform, Transform
from xstsr.errors import XstsrError
from xstsr.typing import Factor


@dataclass(frozen=True)
class Settings(Schedule):
    """How a model samples unless told otherwise.

    Parameters
    ----------
    sigma_min, sigma_max, rho, beta_end : float
        Noise levels, as in `Schedule`.
    steps : int
        Evaluations of the denoiser per sample, whatever the sampler.
    sampler : str
        A name in `SAMPLERS`.
    guidance : float
        Noise level below which estimates are made to agree with the coarse field; 0
        never.
    spread, generator_spread : float
        Factors on sigma_data for the samplers, and on the generator's noise, chosen on
        validation data: few steps and short training draw residuals a little too small.
    """

    steps: int = 8
    sampler: str = "dpm-solver++"
    guidance: float = 2.0
    spread: float = 1.0
    generator_spread: float = 1.0


@dataclass(frozen=True)
class ModelSpec:
    """All that is needed to build a model before its weights are loaded.

    Parameters
    ----------
    mean, denoiser : Architecture
        Shapes of the two networks.
    transform : Transform
        The value space, and with it the kind of field.
    settings : Settings
        How it samples.
    generator : Architecture, optional
        Shape of the network that draws in one evaluation, where there is one.
    known : tuple of KnownField
        What it must be given of the fine grid besides the coarse field.
    """

    mean: Architecture = field(default_factory=Architecture)
    denoiser: Architecture = field(default_factory=Architecture)
    transform: Transform = field(default_factory=LogTransform)
    settings: Settings = field(default_factory=Settings)
    generator: Architecture | None = None
    known: tuple[KnownField, ...] = ()


class Model(nn.Module):
    """Conditional mean and residual diffusion with their shared value space.

    Parameters
    ----------
    spec : ModelSpec
        What to build.
    """

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__()
        self.spec = spec
        self.mean = MeanNetwork(spec.mean, spec.transform, len(spec.known))
        self.denoiser = Denoiser(spec.denoiser, len(spec.known))
        self.sigma_data = SigmaData()
        self.generator = (
            Generator(spec.generator, len(spec.known)) if spec.generator else None
        )

    def condition(
        self,
        coarse: Tensor,
        factor: Factor,
        spacing: Tensor,
        step: Tensor,
        reach: Tensor,
        origin: tuple[int, int] = (0, 0),
        known: Tensor | None = None,
    ) -> Condition:
        """Lay out what is known before chance: features, and means where they serve.

        Parameters
        ----------
        coarse : Tensor, shape (B, T, Y, X)
            Coarse rates [mm h-1] or states, NaN where there are no data.
        factor : tuple of int
            (t, sy, sx).
        spacing, step, reach : Tensor, shape (B,)
            Fine spacing [km], fine step and temporal reach [min].
        origin : tuple of int
            Absolute place of the first fine pixel.
        known : Tensor, shape (B, K, T t, Y sy, X sx), optional
            The fields of `ModelSpec.known`, in their units and order; one frame where
            none changes.

        Returns
        -------
        Condition
        """
        seen = self.look(coarse, factor, spacing, step, reach, origin, known)
        mean = self.mean.__call__
        return Condition(seen, mean, self.spec.transform, coarse, factor)

    def look(
        self,
        coarse: Tensor,
        factor: Factor,
        spacing: Tensor,
        step: Tensor,
        reach: Tensor,
        origin: tuple[int, int] = (0, 0),
        known: Tensor | None = None,
    ) -> Features:
        """Lay out what the networks see; arguments as in `condition`."""
        fields = self.spec.known
        assert (0 if known is None else known.shape[1]) == len(fields)
        frames = coarse.shape[1] * factor[0]
        maps = None if known is None else known_maps(fields, known, frames)
        transform = self.spec.transform
        return features(coarse, factor, spacing, step, reach, transform, origin, maps)

    def generate(
        self, condition: Condition, noise: Tensor, amplitude: float = 1.0
    ) -> Tensor:
        """Draw one fine field per noise field, in one evaluation.

        Parameters
        ----------
        condition : Condition
            From `condition`, for a batch of B.
        noise : Tensor, shape (B, 1, T, Y, X)
            White noise.
        amplitude : float
            The residual's standard deviation over that of the training data.

        Returns
        -------
        Tensor, shape (B, 1, T, Y, X)
            z, whose block means are close to the coarse field's.

        Raises
        ------
        XstsrError
            The model has no generator.
        """
        if self.generator is None:
            raise XstsrError(
                f"cannot draw {tuple(noise.shape)} values in one evaluation: the model "
                "has no generator. Use sample(), that is method='diffusion', or train "
                "one: generator_steps above 0 in the configuration."
            )
        white = noise * self.spec.settings.generator_spread
        width = self.sigma_data(condition.features.scalars)
        z = self.generator(white, condition.features, width)
        if amplitude != 1:
            z = condition.means.z + amplitude * (z - condition.means.z)
        given = condition.coarse, condition.factor, self.spec.transform
        return guide(z, *given, rounds=LAST_ROUNDS, relaxation=OVER)

    def sample(
        self,
        condition: Condition,
        noise: Tensor,
        *,
        amplitude: float = 1.0,
        steps: int | None = None,
        sampler: str | None = None,
        fresh: Fresh | None = None,
    ) -> Tensor:
        """Draw one fine field per noise field, by diffusion.

        Parameters
        ----------
        condition : Condition
            From `condition`, for a batch of B.
        noise : Tensor, shape (B, 1, T, Y, X)
            White noise.
        amplitude : float
            The residual's standard deviation over that of the training data.
        steps : int, optional
            Evaluations of the denoiser; the model's own number by default.
        sampler : str, optional
            A name in `SAMPLERS`; the model's own by default.
        fresh : callable, optional
            White noise of the shape of `noise` for step 1, 2, ... of a sampler that
            needs it.

        Returns
        -------
        Tensor, shape (B, 1, T, Y, X)
            Rates [mm h-1] or states, before conservation.

        Raises
        ------
        XstsrError
            The sampler is unknown, or cannot take so many steps.
        """
        chosen = self.spec.settings
        steps = chosen.steps if steps is None else steps
        transform = self.spec.transform
        mean = condition.means.z
        if amplitude == 0:
            return transform.inverse(mean)  # nothing is left to chance
        solver = find_sampler(sampler or chosen.sampler, steps)
        drawn_for = condition.features.scalars
        width: Tensor = self.sigma_data(drawn_for) * amplitude * chosen.spread
        sigmas = solver.sigmas(steps, chosen)

        def denoise(x_t: Tensor, sigma: float) -> Tensor:
            level = torch.full((len(x_t),), sigma, device=x_t.device)
            clean: Tensor = self.denoiser(x_t, level, condition)
            if sigma >= chosen.guidance:
                return clean
            z = guide(
                mean + width * clean, condition.coarse, condition.factor, transform
            )
            return (z - mean) / width

        residual = solver.integrate(denoise, initial(noise, sigmas), sigmas, fresh)
        return transform.inverse(mean + width * residual)
