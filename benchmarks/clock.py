"""What the benchmark of speed measures with: times in turn, stages, memory, machine."""

import os
import platform
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import wraps
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch

Place = tuple[object, str]  # a module or class, and the name of a function there


def in_turn(ways: Mapping[str, Callable[[], Any]], rounds: int) -> dict[str, float]:
    """Time several ways in turn, A B C A B C, and keep the best of each [s].

    A machine that is busy now and idle later is so for all of them.
    """
    best = dict.fromkeys(ways, float("inf"))
    for _ in range(rounds):
        for name, way in ways.items():
            start = time.perf_counter()
            way()
            best[name] = min(best[name], time.perf_counter() - start)
    return best


class Stopwatch:
    """Share the time of a run among stages: each second counts for the innermost.

    Parameters
    ----------
    rest : str
        Name of what belongs to no stage.
    """

    def __init__(self, rest: str) -> None:
        self.seconds: defaultdict[str, float] = defaultdict(float)
        self._stages = [rest]
        self._since = 0.0

    @contextmanager
    def run(self, stages: Mapping[str, Sequence[Place]]) -> Iterator[None]:
        """Watch the functions of each stage meanwhile."""
        with ExitStack() as watched:
            for stage, places in stages.items():
                for owner, name in places:
                    timed = self._timed(stage, getattr(owner, name))
                    watched.enter_context(patch.object(owner, name, timed))
            self._since = time.perf_counter()
            yield
            self._charge()

    def _charge(self) -> None:
        now = time.perf_counter()
        self.seconds[self._stages[-1]] += now - self._since
        self._since = now

    def _timed(self, stage: str, function: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(function)
        def timed(*args: Any, **options: Any) -> Any:
            self._charge()
            self._stages.append(stage)
            try:
                return function(*args, **options)
            finally:
                self._charge()
                self._stages.pop()

        return timed


def convolution_peak(rounds: int) -> float:
    """Measure how fast large convolutions are, with the threads that torch has.

    Returns
    -------
    float
        FLOP/s: 3 x 3, of 256 channels, the best of several.
    """
    channels, side, frames = 256, 64, 8
    layer = torch.nn.Conv2d(channels, channels, 3, padding=1)
    layer = layer.to(memory_format=torch.channels_last)
    x = torch.randn(frames, channels, side, side)
    x = x.to(memory_format=torch.channels_last)
    with torch.inference_mode():
        best = in_turn({"": lambda: layer(x)}, 5 * rounds)[""]
    return 2 * 9 * channels**2 * frames * side**2 / best


def peak_bytes(*arguments: str) -> int:
    """Run a command of Python in a process of its own; its peak resident memory."""
    code = (
        "import runpy, sys; from benchmarks.clock import own_peak_bytes;"
        "sys.argv = sys.argv[1:];"
        "runpy.run_module(sys.argv[0], run_name='__main__', alter_sys=True);"
        "print(own_peak_bytes())"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        sys.exit(f"{' '.join(arguments)} failed:\n{done.stderr}")
    return int(done.stdout.split()[-1])


def own_peak_bytes() -> int:
    """Peak resident memory of this process, without that of the one it came from."""
    try:
        status = Path("/proc/self/status").read_text(encoding="ascii")
        return int(status.partition("VmHWM:")[2].split()[0]) * 1024
    except OSError:  # not Linux
        import resource

        unit = 1 if sys.platform == "darwin" else 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def machine() -> str:
    """Describe the machine in a line: cores, processor, memory, versions."""
    allowed = getattr(os, "sched_getaffinity", None)
    cores = len(allowed(0)) if allowed else os.cpu_count()
    capability = torch.backends.cpu.get_cpu_capability()
    return (
        f"{cores} cores of {_processor()} ({capability}), {torch.get_num_threads()} "
        f"threads, {_memory()} of memory, torch {torch.__version__}, Python "
        f"{platform.python_version()}"
    )


def _processor() -> str:
    """Name the processor's model."""
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":")[1].strip()
    except OSError:
        pass  # not Linux
    return platform.processor() or platform.machine()


def _memory() -> str:
    """Tell the machine's memory."""
    try:
        size = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):  # Windows
        return "an unknown amount"
    return f"{size / 2**30:.0f} GiB"
