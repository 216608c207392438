r"""The whole generative model: mean network, residual denoiser, and how to sample.

.. math:: Y = T^{-1}\big(\mu_z(X) + \sigma_{data} \, R(X, \epsilon)\big)

`Model.condition` computes all that does not depend on chance, once for every
realization; `Model.sample` draws one.
"""

from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from xstsr.diffusion.denoiser import Condition, Denoiser, SigmaData
from xstsr.diffusion.features import Factor, features
from xstsr.diffusion.mean import MeanNetwork
from xstsr.diffusion.network import Architecture
from xstsr.diffusion.sampler import SAMPLERS, initial, sigmas_karras
from xstsr.diffusion.transform import LogTransform


@dataclass(frozen=True)
class Settings:
    """How a model samples unless told otherwise.

    Parameters
    ----------
    steps : int
        Network evaluations per sample.
    sigma_min, sigma_max, rho : float
        Noise levels, in units of sigma_data.
    sampler : str
        A name in `SAMPLERS`.
    """

    steps: int = 8
    sigma_min: float = 0.03
    sigma_max: float = 80.0
    rho: float = 7.0
    sampler: str = "dpm-solver++"


@dataclass(frozen=True)
class ModelSpec:
    """All that is needed to build a model before its weights are loaded.

    Parameters
    ----------
    mean, denoiser : Architecture
        Shapes of the two networks.
    transform : LogTransform
        The value space.
    settings : Settings
        How it samples.
    """

    mean: Architecture = field(default_factory=Architecture)
    denoiser: Architecture = field(default_factory=Architecture)
    transform: LogTransform = field(default_factory=LogTransform)
    settings: Settings = field(default_factory=Settings)


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
        self.mean = MeanNetwork(spec.mean)
        self.denoiser = Denoiser(spec.denoiser)
        self.sigma_data = SigmaData()

    def condition(
        self,
        coarse: Tensor,
        factor: Factor,
        spacing: Tensor,
        step: Tensor,
        reach: Tensor,
        origin: tuple[int, int] = (0, 0),
    ) -> Condition:
        """Compute what is known before chance: features and conditional means.

        Parameters
        ----------
        coarse : Tensor, shape (B, T, Y, X)
            Coarse rates [mm h-1], NaN where there are no data.
        factor : tuple of int
            (t, sy, sx).
        spacing, step, reach : Tensor, shape (B,)
            Fine spacing [km], fine step and temporal reach [min].
        origin : tuple of int
            Absolute place of the first fine pixel.

        Returns
        -------
        Condition
        """
        transform = self.spec.transform
        seen = features(coarse, factor, spacing, step, reach, transform, origin)
        return Condition(seen, self.mean(seen, coarse, factor), transform)

    def sample(
        self,
        condition: Condition,
        noise: Tensor,
        *,
        amplitude: float = 1.0,
        steps: int | None = None,
    ) -> Tensor:
        """Draw one fine field per noise field.

        Parameters
        ----------
        condition : Condition
            From `condition`, for a batch of B.
        noise : Tensor, shape (B, 1, T, Y, X)
            White noise.
        amplitude : float
            The residual's standard deviation over that of the training data.
        steps : int, optional
            Network evaluations; the model's own number by default.

        Returns
        -------
        Tensor, shape (B, 1, T, Y, X)
            Rates [mm h-1] before conservation.
        """
        chosen = self.spec.settings
        sigmas = sigmas_karras(
            steps or chosen.steps,
            sigma_min=chosen.sigma_min,
            sigma_max=chosen.sigma_max,
            rho=chosen.rho,
        )

        def denoise(x_t: Tensor, sigma: float) -> Tensor:
            level = torch.full((len(x_t),), sigma, device=x_t.device)
            clean: Tensor = self.denoiser(x_t, level, condition)
            return clean

        residual = SAMPLERS[chosen.sampler](denoise, initial(noise, sigmas), sigmas)
        width = self.sigma_data(condition.features.scalars) * amplitude
        return self.spec.transform.inverse(condition.means.z + width * residual)
