"""Rain and temperature that belong together, refined one given the other.

Rain is refined first; then temperature is drawn given the fine rain by a model that
learnt how the one follows the other. Both together are a draw of their joint
distribution. The truth is synthetic: showers cool the air beneath them. The bundled
model knows rain only; the model of temperature is trained here, in some seconds, on
three events of this small world, and knows nothing else.

Run it from anywhere: python examples/07_two_variables.py [FOLDER]
"""

import sys
from pathlib import Path

import numpy as np
import xarray as xr

import xstsr
from xstsr.diffusion.model import ModelSpec
from xstsr.diffusion.network import Architecture
from xstsr.training.config import Config, Draw

folder = Path(sys.argv[1]) if len(sys.argv) > 1 else Path("xstsr-example")
folder.mkdir(parents=True, exist_ok=True)
S, T = 4, 2


def waves(rng, shape, kilometres, count=16):
    """Add up waves of about one length that travel slowly; variance 1."""
    t, y, x = np.meshgrid(*map(np.arange, shape), indexing="ij")
    total = np.zeros(shape)
    for _ in range(count):
        angle = rng.uniform(0, 2 * np.pi)
        k = 2 * np.pi / (kilometres * rng.uniform(0.8, 1.3))
        phase = rng.uniform(0, 2 * np.pi) + rng.normal(0, 0.3) * t
        total += np.cos(k * (np.cos(angle) * y + np.sin(angle) * x) + phase)
    return total * np.sqrt(2 / count)


def event(number, frames=12, side=48):
    """Make rain and temperature of two hours on 48 x 48 km."""
    rng = np.random.default_rng(number)
    shape = (frames, side, side)
    wet = waves(rng, shape, 40) + 0.4
    rain = 4 * np.maximum(wet, 0) * np.exp(0.8 * waves(rng, shape, 6))
    warm = 288 + 3 * waves(rng, shape, 80) - 2 * np.log1p(rain)
    start = np.datetime64(f"2020-07-0{number + 1}", "ns")
    coords = {
        "time": start + np.arange(frames) * np.timedelta64(10, "m"),
        "y": ("y", 1000.0 * np.arange(side), {"units": "m", "axis": "Y"}),
        "x": ("x", 1000.0 * np.arange(side), {"units": "m", "axis": "X"}),
    }
    mean = {"cell_methods": "time: mean"}
    return xr.Dataset(
        {
            "pr": (
                ("time", "y", "x"),
                rain.astype("float32"),
                {"standard_name": "rainfall_rate", "units": "mm h-1"} | mean,
            ),
            "tas": (
                ("time", "y", "x"),
                warm.astype("float32"),
                {"standard_name": "air_temperature", "units": "K"} | mean,
            ),
        },
        coords,
    )


# a small network for one factor; leave `config` out for a real one
small = Architecture(widths=(12, 24), blocks=1, temporal=(1,), window=2, embedding=24)
config = Config(
    spec=ModelSpec(small, small),
    draw=Draw(
        s=(S,), t=(T,), pixels=5000, side=24, frames=(8,), coarsening=(1,), stride=(1,)
    ),
    mean_steps=60,
    residual_steps=40,
    rate=1e-2,
    warmup=5,
    fit_batches=8,
    precision="32-true",
)
past = [event(number) for number in (1, 2, 3)]
model = xstsr.train(
    [e.tas for e in past],
    folder / "run",
    given=[e.pr for e in past],
    config=config,
    say=lambda line: None,
)

truth = event(0)
coarse = xr.Dataset({n: truth[n].stsr.coarsen(S, T) for n in truth.data_vars})
choices = {"pr": {"method": "rainfarm"}, "tas": model}
both = coarse.stsr.upscale_together(choices, S, T, realizations=4)
rain, warm = both.pr, both.tas
alone = coarse.tas.stsr.upscale(S, T, method="linear")
# where radar has seen the fine rain, temperature is drawn given that
seen = coarse.tas.stsr.upscale(S, T, model=model, given=truth.pr)
print(warm.stsr.check(coarse.tas))


def tie(rain, warm):
    """Correlate what rain and temperature do within the coarse cells."""
    inner = []
    for field in (np.log1p(rain), warm):
        blocks = field.coarsen(time=T, y=S, x=S)
        inner.append(
            field.values
            - blocks.mean().values.repeat(T, -3).repeat(S, -2).repeat(S, -1)
        )
    rain, warm = np.broadcast_arrays(*inner)
    return np.corrcoef(rain.ravel(), warm.ravel())[0, 1]


print("correlation of rain and temperature within coarse cells")
for name, pair in (
    ("truth", (truth.pr, truth.tas)),
    ("given the true rain", (truth.pr, seen)),
    ("given drawn rain", (rain, warm)),
    ("interpolated", (rain, alone)),
):
    print(f"  {name:20} {tie(*pair):+.2f}")
print("error of temperature [K]")
for name, field in (("given the true rain", seen), ("interpolated", alone)):
    print(f"  {name:20} {float(((field - truth.tas) ** 2).mean() ** 0.5):.2f}")

both.to_netcdf(folder / "both.nc")
warm.stsr.plot.compare(coarse.tas, truth.tas, path=folder / "both.png")
print(f"wrote {folder / 'both.nc'} and {folder / 'both.png'}")
