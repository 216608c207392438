"""The generator: from the coarse field and white noise to a fine field at once.

It stands beside the diffusion model, not upon it: it needs neither the conditional mean
nor the denoiser. One evaluation is all the work there is, so its network is shaped for
the pixels it serves: it works at a sixteenth of them. It learns from the fair CRPS of
two draws (`xstsr.training.crps`).
"""

from torch import Tensor, nn

from xstsr.diffusion.features import CHANNELS, Features
from xstsr.diffusion.network import Architecture, SpaceTimeUNet

# a fifth of the denoiser's work; no attention, which did not pay (`make ablations`)
ARCHITECTURE = Architecture(
    widths=(64, 96, 128),
    blocks=(1, 2, 3),
    temporal=(),
    window=0,
    fold=4,
    door=1,
)
_FIRST = 0.05  # of the last layer's weights: draws that are equal would teach nothing


class Generator(nn.Module):
    """Draw a transformed fine field in one evaluation.

    In dry and in missing coarse cells the field is known: noise is masked there, as for
    the denoiser.

    Parameters
    ----------
    architecture, known
        As for `Denoiser`.
    """

    def __init__(self, architecture: Architecture, known: int = 0) -> None:
        super().__init__()
        self.network = SpaceTimeUNet(CHANNELS + known + 1, 1, 4, architecture)
        last = self.network.leave[-1]
        assert isinstance(last, nn.Conv2d)
        nn.init.normal_(last.weight, std=_FIRST)

    def forward(self, noise: Tensor, features: Features, width: Tensor) -> Tensor:
        """Draw.

        Parameters
        ----------
        noise : Tensor, shape (B, 1, T, Y, X)
            White noise; the larger, the wider the draws spread.
        features : Features
            Of the coarse field.
        width : Tensor, shape (B, 1, 1, 1, 1)
            About the standard deviation of what is left to chance.

        Returns
        -------
        Tensor, shape (B, 1, T, Y, X)
            z; 0 in dry and in missing coarse cells.
        """
        wet = features.wet
        moved = self.network((noise * wet, features.maps), features.scalars, features)
        z: Tensor = (features.interpolated + width * moved) * wet
        return z
