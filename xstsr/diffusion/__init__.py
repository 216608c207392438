"""The networks, in PyTorch: noise, features, networks, samplers, checkpoints.

Read in this order:

- `noise`: white noise as a function of where and when it falls
- `transform`: the value spaces of rain and of states
- `features`: what the networks see
- `attention`, `network`: the space-time U-Net
- `mean`: the conditional mean
- `denoiser`, `sampler`, `guidance`: the residual, by diffusion
- `generator`: a draw in one evaluation
- `model`: all of them together
- `checkpoint`, `card`: files, and what they say of themselves

Tensors only; no labels. Stands on `geometry`.
"""
