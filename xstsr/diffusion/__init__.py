"""The generative model, in pure torch: noise, networks, denoiser, sampler, checkpoint.

Read in this order: `noise`, `features`, `network`, `mean`, `denoiser`, `sampler`,
`model`, `checkpoint`. Nothing here knows about labelled arrays.
"""
