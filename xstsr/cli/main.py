"""The command line: ``xstsr COMMAND``.

Commands parse and delegate; each imports what it needs when it runs. Exit status: 0 if
all went well, 2 for bad usage or bad input (one message on stderr), 3 for a run that
was stopped and can be gone on with (``--resume``), 1 for the rest.
"""

import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from xstsr.cli.console import Log, find_files, read_chunks, set_form
from xstsr.errors import AssumptionWarning, StoppedError, XstsrError
from xstsr.factors import parse_space
from xstsr.methods import METHODS, Name

if TYPE_CHECKING:
    import xarray as xr

    from xstsr.planning.preview import Preview

BAD, STOPPED = 2, 3  # exit status
_Command = TypeVar("_Command", bound=Callable[..., Any])


class _Group(click.Group):
    def invoke(self, ctx: click.Context) -> object:
        log = ctx.obj = Log()

        def show(message: Warning | str, *where: object, **more: object) -> None:
            """Tell what was assumed without the line of source that warned."""
            log.tell("note", str(message))

        with warnings.catch_warnings():
            warnings.simplefilter("default", AssumptionWarning)
            warnings.showwarning = show
            try:
                return super().invoke(ctx)
            except XstsrError as error:
                log.tell("error", str(error))
                ctx.exit(STOPPED if isinstance(error, StoppedError) else BAD)


def _options(*decorators: Callable[[_Command], _Command]) -> Callable[..., Any]:
    def decorate(command: _Command) -> _Command:
        for decorator in reversed(decorators):
            command = decorator(command)
        return command

    return decorate


def _summary(field: "xr.DataArray", target: Path) -> dict[str, Any]:
    """Say in plain numbers and strings what was written."""
    return {
        "target": str(target),
        "variable": str(field.name),
        "units": field.attrs.get("units", ""),
        "sizes": {str(dim): size for dim, size in field.sizes.items()},
        "bytes": field.nbytes,
        **{
            key.removeprefix("xstsr_"): value
            for key, value in field.attrs.items()
            if key.startswith("xstsr_")
        },
    }


def _opened(context: object, option: object, path: Path | None) -> "xr.Dataset | None":
    """Open the file of an option."""
    from xstsr.files import open_fields

    return None if path is None else open_fields(path)


_FILE = click.Path(exists=True, path_type=Path)
_field = _options(
    click.argument("source", type=_FILE),
    click.option("--var", "name", help="Variable. Default: the only 3-D one."),
)
_factors = _options(
    click.option(
        "-s",
        metavar="INTEGER[,INTEGER]",
        callback=lambda _context, _option, text: parse_space(text),
        required=True,
        help="Refine space by this; 5,10 in y and x.",
    ),
    click.option("-t", type=int, default=1, show_default=True, help="Refine time."),
)
_MODELS = "Default: the model's."
_sampling = _options(
    click.option("--seed", type=int, default=0, show_default=True),
    click.option("--model", default="default", show_default=True, help="Name or path."),
    click.option("--steps", type=int, help=f"Evaluations of the denoiser. {_MODELS}"),
    click.option("--sampler", help=f"What makes these evaluations. {_MODELS}"),
    click.option("--device", help="cpu, cuda, cuda:1. Default: the best there is."),
)
_refinement = _options(
    click.option("--realizations", type=click.IntRange(min=1), help="Default: one."),
    click.option(
        "--method",
        type=click.Choice(list(METHODS)),
        default="diffusion",
        show_default=True,
    ),
    click.option(
        "--conserve",
        type=click.Choice(["cell", "window", "none"]),
        default="cell",
        show_default=True,
        help="Where water is kept: in each cell and step, in each window, nowhere.",
    ),
    click.option("--cell-methods", help='What the values are, as "time: mean".'),
    click.option("--label", type=click.Choice(["left", "mid", "right", "infer"])),
    click.option(
        "--static",
        type=_FILE,
        callback=_opened,
        help="Orography and the like on the fine grid, for models that need it.",
    ),
    click.option(
        "--given",
        type=_FILE,
        callback=_opened,
        help="Another variable on the fine grid, likewise.",
    ),
)
_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
_ensemble_method = click.option(
    "--method",
    type=click.Choice([name for name, m in METHODS.items() if m.is_stochastic]),
    default="diffusion",
    show_default=True,
)


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="xstsr", prog_name="xstsr")
def main() -> None:
    """Space-time super-resolution of climate fields."""


@main.command()
@click.argument("source", type=_FILE, required=False)
@click.option("--var", "name", help="Variable of SOURCE. Default: the only 3-D one.")
@click.option("-s", type=int, default=5, show_default=True, help="Coarsen space.")
@click.option("-t", type=int, default=3, show_default=True, help="Coarsen time.")
@click.option(
    "--realizations",
    type=click.IntRange(min=2),
    default=8,
    show_default=True,
)
@_ensemble_method
@_sampling
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("xstsr-demo"),
    show_default=True,
    help="Folder for fine.zarr and fine.png, both replaced.",
)
def demo(
    source: Path | None,
    name: str | None,
    s: int,
    t: int,
    realizations: int,
    method: Name,
    seed: int,
    model: str,
    steps: int | None,
    sampler: str | None,
    device: str | None,
    out: Path,
) -> None:
    """Coarsen real rain, upscale it again, and compare with what was there.

    Without SOURCE: radar rain over Gothenburg, from 2 km and 5 min to 10 km and 15 min
    and on to 1 km and 5 min. With SOURCE: your own fine field, back to its own grid.
    """
    from xstsr.cli.demo import Choices, run

    # the radar's cells are halved as well, to show detail that the radar does not see
    beyond = 2 if source is None else 1
    choices = Choices(
        s, t, beyond, realizations, seed, method, model, device, steps, sampler
    )
    run(source, name, out, choices, say=click.echo)


@main.command()
@click.argument("sources", nargs=-1, required=True, callback=find_files)
@click.argument("target", type=click.Path(path_type=Path))
@click.option("--var", "name", help="Variable. Default: the only 3-D one.")
@_factors
@_refinement
@_sampling
@click.option(
    "--chunks",
    metavar="DIM=N,...",
    callback=read_chunks,
    help="Of the input. Default: as stored.",
)
@click.option("--workers", type=click.IntRange(min=1), help="Processes to start here.")
@click.option("--scheduler", help="Dask cluster to work on, as tcp://host:8786.")
@click.option("--resume", is_flag=True, help="Go on, or add realizations.")
@click.option("--overwrite", is_flag=True, help="Replace TARGET once all is written.")
@click.option("--dry-run", is_flag=True, help="Print the plan and write nothing.")
@click.option(
    "--log-format",
    type=click.Choice(["bar", "lines", "json"]),
    default="bar",
    show_default=True,
    callback=set_form,
    expose_value=False,
    is_eager=True,
    help="On stderr: a bar in a terminal, lines with times, or JSON.",
)
@_json
@click.pass_obj
def upscale(
    log: Log,
    /,
    sources: list[Path],
    name: str | None,
    target: Path,
    chunks: dict[str, int] | None,
    workers: int | None,
    scheduler: str | None,
    resume: bool,
    overwrite: bool,
    dry_run: bool,
    as_json: bool,
    **choices: Any,
) -> None:
    """Refine a variable of SOURCES and write it to TARGET (.zarr or .nc).

    SOURCES are files or patterns that follow each other in time. A run that was
    stopped by Ctrl-C, a batch system, a full disk or a lost worker has exit status 3
    and goes on with --resume, to the same bytes.
    """
    for one, other in (("--workers", "--scheduler"), ("--resume", "--overwrite")):
        if all(click.get_current_context().params[o.strip("-")] for o in (one, other)):
            raise click.UsageError(f"{one} and {other} exclude each other: choose one.")
    from xstsr.cli.batch import refine_into
    from xstsr.execution.cluster import cluster
    from xstsr.files import check_target, open_files, refuse_source

    refuse_source(target, sources)
    check_target(target, overwrite=overwrite or resume)
    dataset, name = open_files(sources, name, chunks)
    if dry_run:
        _print_plan(dataset.stsr.plan(name, **choices), as_json=as_json)
        return
    choices |= {"resume": resume, "overwrite": overwrite}
    with cluster(workers, scheduler):
        fine = refine_into(dataset, name, target, progress=log.progress(), **choices)
    log.tell("wrote", str(target), target=str(target))
    if as_json:
        told = _summary(fine[name], target)
        # attributes that were read back are numbers of numpy
        click.echo(json.dumps(told, indent=2, default=lambda number: number.item()))


@main.command()
@_field
@_factors
@_refinement
@_sampling
@_json
def plan(source: Path, name: str | None, as_json: bool, **choices: Any) -> None:
    """Tell what would be inferred and computed, and compute nothing."""
    from xstsr.files import open_variable

    dataset, name = open_variable(source, name)
    _print_plan(dataset.stsr.plan(name, **choices), as_json=as_json)


def _print_plan(preview: "Preview", *, as_json: bool) -> None:
    click.echo(json.dumps(preview.to_dict(), indent=2) if as_json else preview)


@main.command()
@click.argument("sources", nargs=-1, required=True, type=_FILE)
@click.option("--var", "name", help="Variable. Default: the only 3-D one.")
@click.option(
    "--factors",
    default="4x2,10x3",
    show_default=True,
    help="Factors as SxT, or YxXxT, separated by commas.",
)
@click.option(
    "--realizations", type=click.IntRange(min=2), default=8, show_default=True
)
@click.option("--side", type=int, default=200, show_default=True, help="Pixels a box.")
@click.option("--frames", type=int, default=24, show_default=True, help="Steps a box.")
@click.option("--boxes", type=int, default=1, show_default=True, help="Boxes an event.")
@_sampling
@click.option("--out", type=click.Path(path_type=Path), help="Table: .md, .csv or .nc.")
@click.option(
    "--report",
    type=click.Path(path_type=Path),
    multiple=True,
    help="Trust report: .html or .png. May be repeated.",
)
def evaluate(
    sources: tuple[Path, ...],
    name: str | None,
    factors: str,
    out: Path | None,
    report: tuple[Path, ...],
    **protocol: Any,
) -> None:
    """Coarsen fine fields, upscale them again, and score against the baselines.

    Each of SOURCES is an event; its wettest fully covered boxes are judged. The report
    says at which factors to trust the model, by a stated rule, and shows why.
    """
    from xstsr.evaluation import report as trust
    from xstsr.evaluation.protocol import Protocol, parse_factors, write_table
    from xstsr.files import open_variable

    trust.check_targets(report)
    opened = [(path, *open_variable(path, name)) for path in sources]
    found = trust.evaluate_events(
        [(path.stem, dataset[variable]) for path, dataset, variable in opened],
        parse_factors(factors),
        Protocol(**protocol),
        say=lambda line: click.echo(line, err=True),
    )
    click.echo(write_table(found.scores, out))
    for one in found.evaluations:
        click.echo(f"{one.name}: {one.verdict.sentence}")
    for path in report:
        click.echo(f"wrote {trust.write(found.evaluations, path)}", err=True)


@main.command()
@click.argument("data", nargs=-1, required=True, type=_FILE)
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("runs/default"),
    show_default=True,
    help="Folder for the run's state and the model; a stopped run goes on from it.",
)
@click.option("--var", "name", help="Variable, where a file has several.")
@click.option(
    "--validation",
    multiple=True,
    type=_FILE,
    help="Score the run on these events now and then. May be repeated.",
)
@click.option("--config", type=_FILE, help="TOML file with numbers of the run.")
@click.option("-s", "--s", multiple=True, type=int, help="Train on this factor alone.")
@click.option("-t", "--t", multiple=True, type=int, help="Likewise, in time.")
@click.option(
    "--static",
    multiple=True,
    type=_FILE,
    help="Orography and the like on the grid of DATA, for the model to know.",
)
@click.option(
    "--given",
    multiple=True,
    type=_FILE,
    help="Another variable on the grid of DATA, likewise. Both may be repeated.",
)
@click.option("--start", help="Model to fine-tune: name or path. Default: none.")
@click.option("--minutes", type=float, default=float("inf"), help="Stop after so long.")
@click.option("--device", help="cpu, cuda, cuda:1. Default: the best there is.")
@click.option("--devices", type=int, default=1, show_default=True, help="How many.")
@click.option(
    "--pack",
    type=click.Path(path_type=Path),
    help="Only pack DATA into this file, for machines that cannot read NetCDF.",
)
def train(
    data: tuple[Path, ...], name: str | None, pack: Path | None, **run: Any
) -> None:
    """Train a model on the fine fields of DATA: files, folders of files, or a pack.

    The same command goes on with a stopped run. -s and -t make a specialist for one
    factor, or for a few where they are repeated.
    """
    from xstsr.training import pack_events
    from xstsr.training import train as train_model

    if pack is not None:
        pack_events(data, pack, name, static=run["static"], given=run["given"])
        click.echo(f"wrote {pack}")
        return
    click.echo(f"wrote {train_model(data, name=name, **run)}")


@main.command()
@_json
def models(as_json: bool) -> None:
    """List the bundled models with their model cards."""
    from xstsr.diffusion.card import models as describe

    rows = describe()
    if as_json:
        click.echo(json.dumps(rows, indent=2))
        return
    for row in rows:
        click.echo(f"{row['name']}  {row['megabytes']} MB  sha256 {row['sha256'][:12]}")
        for key, value in row["card"].items():
            click.echo(f"  {key}: {value}")
    if not rows:
        click.echo("no bundled models: methods linear, nearest and rainfarm need none")


@main.command()
@_json
def doctor(as_json: bool) -> None:
    """Print versions, devices, regridding and models, for bug reports."""
    from xstsr.cli.doctor import survey

    found = survey()
    if as_json:
        click.echo(json.dumps(found, indent=2))
        return
    for section, rows in found.items():
        click.echo(section)
        for key, value in rows.items():
            click.echo(f"  {key:18}{'-' if value is None else value}")
