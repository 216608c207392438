"""Training: random examples from fine fields, two networks, one checkpoint."""

from xstsr.training.fit import pack_events, train

__all__ = ["pack_events", "train"]
