"""What can go wrong, as one small tree of exceptions.

Every message says what cannot be done, where, what was received and what to type next.
"""


class XstsrError(ValueError):
    """Base of every error that xstsr raises on purpose."""


class CFError(XstsrError):
    """The metadata are missing, ambiguous or contradict each other."""


class UnitError(XstsrError):
    """The units are unknown, or not those of the quantity named."""


class GridError(XstsrError):
    """The coordinates do not describe a grid that can be refined."""


class FactorError(XstsrError):
    """A refinement factor is not a whole number of 1 or more."""


class PlanError(XstsrError):
    """The work does not fit: memory, windows or tiles."""


class CheckpointError(XstsrError):
    """A checkpoint is missing, damaged, or of another kind."""


class DataError(XstsrError):
    """The values cannot be used: empty, of another type, negative rain."""


class StoreError(XstsrError):
    """A store cannot be written, or was left unfinished: the text says how to go on."""


class StoppedError(StoreError):
    """A run was stopped by something outside, and can be gone on with."""
