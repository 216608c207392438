r"""The residual denoiser, with the preconditioning of Karras et al. (2022).

The residual :math:`(z - \mu_z) / \sigma_{data}` has unit variance for every factor once
:math:`\sigma_{data}(s, t, \Delta x, \Delta t)` is divided out. That function is the
paper's beta: the larger the factor, the larger the noise that the residual is drawn
from. Noise levels below are in units of it.

References
----------
.. [1] Karras et al. (2022), Elucidating the design space of diffusion-based generative
   models. arXiv 2206.00364.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import cached_property

import torch
from torch import Tensor, nn

from xstsr.diffusion.features import CHANNELS, Features
from xstsr.diffusion.mean import Means
from xstsr.diffusion.network import Architecture, SpaceTimeUNet
from xstsr.diffusion.transform import Transform
from xstsr.typing import Factor


class SigmaData(nn.Module):
    r"""Standard deviation of the residual as a function of the setting.

    .. math::

        \ln \sigma = c_0 + c_1 \ln s + c_2 \ln t
        + c_3 \ln \Delta x + c_4 \ln \Delta t

    fitted to training residuals by least squares.
    """

    coefficients: Tensor

    def __init__(self) -> None:
        super().__init__()
        # the feasibility study's fit, until the training data have spoken
        start = torch.tensor([-1.99, 0.21, 0.32, 0.0, 0.0])
        self.register_buffer("coefficients", start)

    def forward(self, scalars: Tensor) -> Tensor:
        """Evaluate for scalars of shape (B, 4); returns shape (B, 1, 1, 1, 1)."""
        log_sigma = self.coefficients[0] + scalars @ self.coefficients[1:]
        sigma: Tensor = log_sigma.exp()[:, None, None, None, None]
        return sigma


class Denoiser(nn.Module):
    """Estimate the clean residual from a noisy one.

    In dry and in missing coarse cells the residual is known to be zero: noise is masked
    there, so they neither cost chance nor influence their surroundings.

    Parameters
    ----------
    architecture : Architecture
        Widths and depths of the U-Net.
    known : int
        Number of known fine fields.
    """

    def __init__(self, architecture: Architecture, known: int = 0) -> None:
        super().__init__()
        self.network = SpaceTimeUNet(CHANNELS + known + 3, 1, 5, architecture)

    def forward(self, x_t: Tensor, sigma: Tensor, condition: "Condition") -> Tensor:
        """Denoise.

        Parameters
        ----------
        x_t : Tensor, shape (B, 1, T, Y, X)
            Residual plus noise of standard deviation `sigma`, in units of sigma_data.
        sigma : Tensor, shape (B,)
            Noise level.
        condition : Condition
            The coarse field and its means.

        Returns
        -------
        Tensor, shape (B, 1, T, Y, X)
            The expected residual, 0 in dry and in missing coarse cells.
        """
        wet = condition.features.wet
        level = sigma[:, None, None, None, None]
        c_skip = 1 / (level**2 + 1)  # Karras (2022), table 1, with sigma_data = 1
        c_out = level / (level**2 + 1).sqrt()
        c_in = 1 / (level**2 + 1).sqrt()
        c_noise = sigma.log() / 4
        maps = (c_in * x_t * wet, condition.maps)
        scalars = torch.cat((condition.features.scalars, c_noise[:, None]), dim=1)
        estimate: Tensor = self.network(maps, scalars, condition.features)
        return (c_skip * x_t + c_out * estimate) * wet


class Condition:
    """What is known before chance: everything that does not depend on the noise.

    The means are computed when they are first asked for: the denoiser starts from them,
    the generator does without.

    Parameters
    ----------
    features : Features
        The coarse field on the fine grid.
    mean : callable
        Takes features, coarse field and factor, and gives the conditional means.
    transform : Transform
        The value space.
    coarse : Tensor, shape (B, T, Y, X)
        The coarse field, NaN where there are no data.
    factor : tuple of int
        (t, sy, sx).
    """

    def __init__(
        self,
        features: Features,
        mean: Callable[[Features, Tensor, Factor], Means],
        transform: Transform,
        coarse: Tensor,
        factor: Factor,
    ) -> None:
        self.features = features
        self.coarse = coarse
        self.factor = factor
        self._mean = mean
        self._transform = transform

    @cached_property
    def means(self) -> Means:
        """The conditional means, each of shape (B, 1, T, Y, X)."""
        return self._mean(self.features, self.coarse, self.factor)

    @cached_property
    def maps(self) -> Tensor:
        """Features and means as channels, shape (B, C, T, Y, X)."""
        rate = self._transform.forward(self.means.rate)
        maps = torch.cat((self.features.maps, self.means.z, rate), dim=1)
        # views, so that nothing is held twice
        shared = maps[:, : self.features.maps.shape[1]]
        self.features = replace(self.features, maps=shared)
        return maps


def loss_weight(sigma: Tensor) -> Tensor:
    """Weight of the squared error at each noise level [1]_; any shape."""
    return (sigma**2 + 1) / sigma**2
