r"""The training loop: the conditional mean, the residual denoiser, the generator.

All stages take the same random examples. After the first, sigma_data(s, t, spacing,
step) is fitted to the residuals of the mean. The denoiser's U-Net starts from the
mean's weights; the generator stands for itself. A run can be stopped at any step and
goes on from its state file; each step depends on (seed, step, rank) alone, so on one
device the result is that of an undisturbed run.

Not here: what is minimised (`losses`), how the run is judged (`validation`), and what
is said of it (`card`).
"""

import copy
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from xstsr.diffusion.checkpoint import atomic_save
from xstsr.diffusion.model import Model, ModelSpec
from xstsr.display import bar_class, is_watched
from xstsr.errors import CheckpointError
from xstsr.training.config import Config
from xstsr.training.events import Event
from xstsr.training.fabric import open_fabric
from xstsr.training.losses import (
    fit_sigma_data,
    generator_loss,
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
STAGES = ("mean", "residual", "generator")


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
        fresh = Model(config.spec) if start is None else extended(start, config.spec)
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
        """Steps of all stages."""
        return sum(self._lengths.values())

    @property
    def stage(self) -> str:
        """What the next step trains: "mean", "residual" or "generator"."""
        ends = accumulate(self._lengths.values())
        open_ = (
            name for name, end in zip(STAGES, ends, strict=True) if self.step < end
        )
        return next(open_, self.trained)

    @property
    def steps(self) -> dict[str, int]:
        """Steps that each stage has been trained for."""
        left, taken = self.step, {}
        for name, length in self._lengths.items():
            taken[name] = min(left, length)
            left -= taken[name]
        return taken

    @property
    def trained(self) -> str:
        """The last stage that has taken a step, the first if there is none."""
        return [name for name, n in self.steps.items() if n or name == "mean"][-1]

    @property
    def _lengths(self) -> dict[str, int]:
        """Steps of each stage."""
        c = self.config
        lengths = (c.mean_steps, c.residual_steps, c.generator_steps)
        return dict(zip(STAGES, lengths, strict=True))

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
                stage = self.stage
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
        with atomic_save(self.state) as side, side.open("wb") as file:
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
        trained = {
            "mean": self.model.mean,
            "residual": self.model.denoiser,
            "generator": self.model.generator,
        }[self.stage]
        assert trained is not None
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
        if self.stage == "generator":  # which draws every example twice
            draw = replace(draw, pixels=max(1, draw.pixels // 2))
        batch = draw_batch(events, seed, self.step, draw, self.fabric.global_rank)
        self.record.note(batch)
        before = self.stage
        loss = self.advance(batch.to(self.fabric.device))
        if self.stage != before:
            self._change_stage(events)
        return loss

    def _loss(self, batch: Batch) -> Loss:
        """Find what this step minimises."""
        config, step, rank = self.config, self.step, self.fabric.global_rank
        if self.stage == "mean":
            return lambda model: mean_loss(model, batch, config)
        loss = residual_loss if self.stage == "residual" else generator_loss
        return lambda model: loss(model, batch, config, step, rank)

    def _learning_rate(self) -> float:
        """Warm up, then fall along a cosine to the floor, in each stage anew."""
        c = self.config
        length, at = self._lengths[self.stage], self.steps[self.stage]
        cosine = 0.5 * (1 + math.cos(math.pi * min(1.0, at / length)))
        return (
            c.rate * min(1.0, (at + 1) / c.warmup) * (c.floor + (1 - c.floor) * cosine)
        )

    def _track(self) -> None:
        """Update the moving average of the weights, faster at first."""
        at = self.steps[self.stage]
        decay = min(self.config.decay, (1 + at) / (10 + at))
        mean, own = self.average.state_dict(), self.model.state_dict()
        with torch.no_grad():
            for name, value in own.items():
                mean[name].lerp_(value, 1 - decay)

    def _change_stage(self, events: Sequence[Event]) -> None:
        """Keep the averaged weights, and start the next stage from them."""
        self.model.load_state_dict(self.average.state_dict())
        if self.stage == "residual":
            self._fit_sigma_data(events)
            if not self.fine_tunes:
                warm_start(self.model)
        self.average.load_state_dict(self.model.state_dict())
        self._begin_stage()

    def _fit_sigma_data(self, events: Sequence[Event]) -> None:
        """Fit sigma_data to the residuals of the mean."""
        draw, seed = self.config.draw, self.config.seed + 1
        device = self.fabric.device
        self.model.eval()
        numbers = range(self.config.fit_batches)
        batches = (draw_batch(events, seed, i, draw).to(device) for i in numbers)
        with self.fabric.autocast():
            fit = fit_sigma_data(self.model, batches)
        self.model.sigma_data.coefficients.copy_(self.fabric.broadcast(fit))

    def _is_due(self) -> bool:
        """Whether a validation follows this step."""
        ends = accumulate(self._lengths.values())
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


def extended(start: Model, spec: ModelSpec) -> Model:
    """Copy a model to fine-tune; a generator that it lacks starts at random."""
    model = Model(spec)
    model.load_state_dict(start.state_dict(), strict=start.spec == spec)
    return model


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
