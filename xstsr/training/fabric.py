"""The door to Lightning Fabric: one process, or several that train together.

`open_fabric` says where and how precisely to compute, `launch` runs a function in every
process. Everything else that is known of Fabric is in `xstsr.training.loop`.
"""

import contextlib
import logging
import os
from collections.abc import Callable
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import torch
from torch.multiprocessing.spawn import ProcessRaisedException

from xstsr.errors import XstsrError
from xstsr.methods.devices import choose_device

if TYPE_CHECKING:
    from lightning_fabric import Fabric

Precision = Literal["bf16-mixed", "32-true"]
Result = TypeVar("Result")


def open_fabric(
    device: str | None = None, devices: int = 1, precision: Precision = "bf16-mixed"
) -> "Fabric":
    """Choose where to train, and how precisely.

    Parameters
    ----------
    device : str, optional
        ``"cpu"``, ``"cuda"`` or, for a single one, ``"cuda:1"``; by default a GPU where
        there is one.
    devices : int
        How many GPUs, or processes on the CPU.
    precision : str
        As in `Config`.

    Raises
    ------
    XstsrError
        Lightning Fabric is not installed, or there are not so many devices.
    """
    module = _fabric_module()
    # what it says of itself at every start is of no use to those who train
    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)
    where = torch.device(choose_device(device))
    _check_count(devices, where)
    choices: dict[str, Any] = {"accelerator": where.type, "precision": precision}
    if devices == 1:
        choices["devices"] = [where.index or 0] if where.type == "cuda" else 1
    else:
        # this machine's processes only, also where a scheduler has started us
        places = import_module(f"{module.__name__}.plugins.environments")
        choices |= {"devices": devices, "strategy": "ddp_spawn"}
        choices["plugins"] = [places.LightningEnvironment()]
    try:
        fabric: Fabric = module.Fabric(**choices)
    except RuntimeError as error:  # several processes from within a notebook
        raise XstsrError(
            f"cannot train on devices={devices}: {error} Train with devices=1, or on "
            "the command line: xstsr train DATA --devices N."
        ) from error
    return fabric


def launch(fabric: "Fabric", work: "Callable[[Fabric], Result]") -> Result:
    """Run ``work(fabric)`` in every process; the result of the first.

    With one device this is a plain call. With several, the function travels to new
    processes, so it must be picklable, and a script must not train as it is imported.

    Raises
    ------
    XstsrError
        One of several processes has failed.
    """
    if fabric.world_size == 1:
        return work(fabric)
    port = os.environ.get("MASTER_PORT")
    try:
        result: Result = fabric.launch(work)
    except ProcessRaisedException as error:
        last = str(error).strip().splitlines()[-1]
        raise XstsrError(
            f"cannot go on with {fabric.world_size} processes: one has failed with "
            f"{last} Give the same command again, or train with devices=1."
        ) from error
    finally:
        if port is None:  # Fabric leaves it behind, for the next run to stumble over
            os.environ.pop("MASTER_PORT", None)
    return result


def _fabric_module() -> ModuleType:
    """Import Lightning Fabric, from its own package or from the large one."""
    for name in ("lightning_fabric", "lightning.fabric"):
        with contextlib.suppress(ModuleNotFoundError):
            return import_module(name)
    raise XstsrError(
        "cannot train: 'lightning_fabric' is not installed. Install it with "
        "pip install 'xstsr[train]', or pip install lightning-fabric; conda's package "
        "is lightning."
    )


def _check_count(devices: int, where: torch.device) -> None:
    """Refuse a number of devices that is none, or more than there are."""
    if devices < 1:
        raise XstsrError(
            f"cannot train on devices={devices!r}: it is a whole number of 1 or more."
        )
    if devices > 1 and where.index is not None:
        raise XstsrError(
            f"cannot train on devices={devices} with device={str(where)!r}, which is "
            f"a single one. Pass device={where.type!r}."
        )
    if where.type == "cuda" and devices > torch.cuda.device_count():
        raise XstsrError(
            f"cannot train on devices={devices}: this torch sees "
            f"{torch.cuda.device_count()} GPUs. Pass as many or fewer."
        )
