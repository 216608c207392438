r"""The training loop: first the conditional mean, then the residual denoiser.

Both stages take the same random examples. Between them, sigma_data(s, t, spacing, step)
is fitted to the residuals of the mean, and the denoiser's U-Net starts from the mean's
weights. A run can be stopped at any step and goes on from its state file; each step
depends on (seed, step, rank) alone, so on one device the result is that of an
undisturbed run.

Not here: what is minimised (`losses`), how the run is judged (`validation`), and what
is said of it (`card`).
"""

import copy
import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from xstsr.diffusion.checkpoint import beside
from xstsr.diffusion.model import Model
from xstsr.errors import CheckpointError
from xstsr.progress import bar_class, is_watched
from xstsr.training.config import Config
from xstsr.training.devices import open_fabric
from xstsr.training.events import Event
from xstsr.training.losses import (
    fit_sigma_data,
    mean_loss,
    residual_loss,
    warm_start,
)
from xstsr.training.patches import Batch, draw_batch
from xstsr.training.record import Record

if TYPE_CHECKING:
    from lightning_fabric import Fabric

Report = Callable[[str], object]
Loss = Callable[[Model], Tensor]


class Run:
    """One training run with its state on disk.

    Parameters
    ----------
    config : Config
        All numbers.
    folder : Path
        Where `state.pt` lies.
    fabric : Fabric, optional
        Where to train; by default on the CPU.
    start : Model, optional
        What to fine-tune; by default the weights start at random.
    """

    def __init__(
        self,
        config: Config,
        folder: Path,
        fabric: "Fabric | None" = None,
        start: Model | None = None,
    ) -> None:
        torch.manual_seed(config.seed)
        self.config = config
        self.folder = folder
        self.fabric = fabric or open_fabric("cpu", precision=config.precision)
        self.fine_tunes = start is not None
        fresh = Model(config.spec) if start is None else copy.deepcopy(start)
        self.model = fresh.to(self.fabric.device)
        self.average = copy.deepcopy(self.model).requires_grad_(False)
        self.step = 0
        self.record = Record()
        self.state = folder / "state.pt"
        saved = self._read()
        self._begin_stage()
        if saved is not None:
            self.optimizer.load_state_dict(saved["optimizer"])

    @property
    def total(self) -> int:
        """Steps of both stages."""
        return self.config.mean_steps + self.config.residual_steps

    @property
    def in_mean_stage(self) -> bool:
        """Whether the next step trains the conditional mean."""
        return self.step < self.config.mean_steps

    @property
    def steps(self) -> tuple[int, int]:
        """Steps that the mean and the denoiser have been trained for."""
        mean = min(self.step, self.config.mean_steps)
        return mean, self.step - mean

    def go(
        self,
        events: Sequence[Event],
        *,
        minutes: float = math.inf,
        until: int | None = None,
        every: int = 50,
        report: Report = print,
        judge: "Callable[[Run], None] | None" = None,
    ) -> None:
        """Train to the end, or for some minutes, or until a step; save the state.

        Parameters
        ----------
        events : sequence of Event
            What to train on.
        minutes : float
            Stop after so long.
        until : int, optional
            Stop after this step.
        every : int
            Steps between two reports.
        report : callable
            Takes a line ``step,stage,loss,seconds a step``; the loss is that of the
            process which reports.
        judge : callable, optional
            Takes the run, every `Config.validate_every` steps and at the end of each
            stage; called in the first process only.
        """
        begin, losses = time.monotonic(), []
        last = self.total if until is None else min(until, self.total)
        shown = begin
        self.record.start(self.fabric.device, self.fabric.world_size)
        with self._bar() as bar:
            while self.step < last and not self._is_over(begin, minutes):
                stage = "mean" if self.in_mean_stage else "residual"
                losses.append(self._step(events))
                bar.update()
                if self.step % every == 0 or self.step == last:
                    pace = (time.monotonic() - shown) / len(losses)
                    loss = sum(losses) / len(losses)
                    bar.set_postfix(stage=stage, loss=f"{loss:.4f}")
                    report(f"{self.step},{stage},{loss:.5f},{pace:.3f}")
                    shown, losses = time.monotonic(), []
                if judge is not None and self._is_due():
                    self.save(judge)
                elif self.step % (4 * every) == 0:
                    self.save()
        self.save()

    def advance(self, batch: Batch) -> float:
        """Take one step on one batch per process; returns this process's loss."""
        self.model.train()
        for group in self.optimizer.param_groups:
            group["lr"] = self._learning_rate()
        loss: Tensor = self._objective(self._loss(batch))
        self.optimizer.zero_grad(set_to_none=True)
        self.fabric.backward(loss)
        norm = self.fabric.clip_gradients(
            self._objective, self._stepper, max_norm=1.0, error_if_nonfinite=False
        )
        if norm is not None and torch.isfinite(norm):
            self._stepper.step()
        self.step += 1
        self._track()
        return float(loss.detach())

    def save(self, judge: "Callable[[Run], None] | None" = None) -> None:
        """Write the state to a side file, then put it in place; all processes call.

        Parameters
        ----------
        judge : callable, optional
            Takes the run before it is saved; called in the first process only.

        Raises
        ------
        CheckpointError
            There is no space; the last state is as it was.
        """
        self.record.pause()
        self.record.share(self.fabric)
        if not self.fabric.is_global_zero:
            return
        if judge is not None:
            judge(self)
        state = {
            "step": self.step,
            "model": self.model.state_dict(),
            "average": self.average.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "record": self.record.to_dict(),
        }
        with beside(self.state) as side, side.open("wb") as file:
            torch.save(state, file)

    def _read(self) -> dict[str, Any] | None:
        """Take over the saved weights, if there are any; returns the whole state."""
        if not self.state.exists():
            return None
        state: dict[str, Any] = torch.load(
            self.state, map_location=self.fabric.device, weights_only=True
        )
        self.step = state["step"]
        self.model.load_state_dict(state["model"])
        self.average.load_state_dict(state["average"])
        self.record = Record.from_dict(state.get("record", {}))
        return state

    def _begin_stage(self) -> None:
        """Set up the network of this stage, and no other, for training."""
        trained = self.model.mean if self.in_mean_stage else self.model.denoiser
        self.model.requires_grad_(False)
        trained.requires_grad_(True)
        self.optimizer = torch.optim.AdamW(
            trained.parameters(), lr=self.config.rate, betas=(0.9, 0.99)
        )
        self._objective, self._stepper = self.fabric.setup(
            _Objective(self.model), self.optimizer
        )

    def _step(self, events: Sequence[Event]) -> float:
        """Draw a batch, take a step, and change the stage; returns the loss."""
        draw, seed = self.config.draw, self.config.seed
        batch = draw_batch(events, seed, self.step, draw, self.fabric.global_rank)
        self.record.note(batch)
        loss = self.advance(batch.to(self.fabric.device))
        if self.step == self.config.mean_steps:
            self._change_stage(events)
        return loss

    def _loss(self, batch: Batch) -> Loss:
        """Find what this step minimises."""
        config, step, rank = self.config, self.step, self.fabric.global_rank
        if self.in_mean_stage:
            return lambda model: mean_loss(model, batch, config)
        return lambda model: residual_loss(model, batch, config, step, rank)

    def _learning_rate(self) -> float:
        """Warm up, then fall along a cosine to the floor, in each stage anew."""
        c = self.config
        stage = c.mean_steps if self.in_mean_stage else c.residual_steps
        at = self.step if self.in_mean_stage else self.steps[1]
        cosine = 0.5 * (1 + math.cos(math.pi * min(1.0, at / max(1, stage))))
        return (
            c.rate * min(1.0, (at + 1) / c.warmup) * (c.floor + (1 - c.floor) * cosine)
        )

    def _track(self) -> None:
        """Update the moving average of the weights, faster at first."""
        at = self.steps[1] or self.step
        decay = min(self.config.decay, (1 + at) / (10 + at))
        mean, own = self.average.state_dict(), self.model.state_dict()
        with torch.no_grad():
            for name, value in own.items():
                mean[name].lerp_(value, 1 - decay)

    def _change_stage(self, events: Sequence[Event]) -> None:
        """Keep the averaged mean, fit sigma_data, and start a new denoiser from it."""
        draw, seed = self.config.draw, self.config.seed + 1
        device = self.fabric.device
        self.model.mean.load_state_dict(self.average.mean.state_dict())
        self.model.eval()
        numbers = range(self.config.fit_batches)
        batches = (draw_batch(events, seed, i, draw).to(device) for i in numbers)
        with self.fabric.autocast():
            fit = fit_sigma_data(self.model, batches)
        self.model.sigma_data.coefficients.copy_(self.fabric.broadcast(fit))
        if not self.fine_tunes:
            warm_start(self.model)
        self.average.load_state_dict(self.model.state_dict())
        self._begin_stage()

    def _is_due(self) -> bool:
        """Whether a validation follows this step."""
        ends = (self.config.mean_steps, self.total)
        return self.step % self.config.validate_every == 0 or self.step in ends

    def _is_over(self, begin: float, minutes: float) -> bool:
        """Whether the time is up; the first process decides for all."""
        if not math.isfinite(minutes):
            return False
        return bool(self.fabric.broadcast(time.monotonic() - begin > 60 * minutes))

    def _bar(self) -> Any:
        """Show a bar in terminals and notebooks, and nothing elsewhere."""
        return bar_class()(
            total=self.total,
            initial=self.step,
            desc="training",
            unit="step",
            disable=not (self.fabric.is_global_zero and is_watched()),
        )


class _Objective(nn.Module):
    """A module whose forward is the loss.

    Fabric synchronises gradients and sets the precision where `forward` is called; a
    function, other than a tensor, goes through it as it is.
    """

    def __init__(self, model: Model) -> None:
        super().__init__()
        self.model = model

    def forward(self, loss: Loss) -> Tensor:
        return loss(self.model)


def append(path: Path, line: str) -> None:
    """Add a line to a text file.

    Raises
    ------
    CheckpointError
        There is no space.
    """
    try:
        with path.open("a", encoding="utf-8") as file:
            file.write(line + "\n")
    except OSError as error:
        raise CheckpointError(
            f"cannot write {str(path)!r}: {error}. Make space and give the command "
            "again: the run goes on from its last state."
        ) from error
