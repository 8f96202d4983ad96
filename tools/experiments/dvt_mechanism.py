"""DVT with a known position pattern: is it removed, is nothing gained without it, and how many views are enough.

Starts from the shipped small ViT. Writes two records: of linear probes with the pattern on and off, and of stage 1 with
16 to all 768 random views (and the whole image).
"""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from dvt_parts.compared_probes import CONTROL, DVT, RAW, compare_features
from dvt_parts.compared_views import compare_solver_views
from dvt_parts.scenes import draw_scenes, read_scenes
from parts import Values, run_parts, total_seconds
from records import Metric, Record, Row, environment, save_record
from runner import ROOT, add_run_arguments

from reprefine.engine.cli.tool import run_as_tool
from reprefine.engine.errors import UserError

EXAMPLE = """example:
  python tools/experiments/dvt_mechanism.py --seeds 5 --out work_dirs/dvt_mechanism

It takes about 25 minutes on one core. Run it again to continue an interrupted call.
"""
RESULTS = ROOT / 'configs/dvt/results'
DATA = (
    'scenes of digits, {train} for the linear probe, {images} of them for stage 1 and the denoiser, {test} for the test'
)
PROBES = dict(mIoU=Metric('mIoU'), aAcc=Metric('pixel accuracy'), fixed=Metric('variance fixed over images', 3, False))
CORRELATIONS = dict(
    pattern=Metric('correlation, known pattern', 3, False),
    natural=Metric('correlation, no pattern', 3, False),
    own=Metric('correlation with all views', 3, False),
    extraction=Metric('extraction, CPU s an image', 2, False),
    solver=Metric('solver, CPU s an image', 2, False),
    mIoU=Metric('mIoU with the pattern'),
)


class Sizes(NamedTuple):
    """Sizes of the experiment.

    Attributes:
        train: Scenes of the linear probe.
        test: Test scenes.
        images: Scenes of stage 1 and 2, the first of ``train``.
        compared: Scenes of each seed whose ``F`` are compared; the field takes the first.
        views: Numbers of random views for the closed form; the last are all.
        field_views: The same for the field.
        trained_views: Numbers of views on whose ``F`` denoisers are trained; the last is that of the config.
        field: Changes to the settings of the field.
        iterations: Iterations of the denoiser; None for those of the config.
    """

    train: int = 240
    test: int = 200
    images: int = 16
    compared: int = 2
    views: tuple[int, ...] = (16, 32, 64, 96, 192, 384, 768)
    field_views: tuple[int, ...] = (16, 64, 768)
    trained_views: tuple[int, ...] = (16, 32, 96)
    field: dict[str, int] = {}  # noqa: RUF012  never changed
    iterations: int | None = None


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the tool."""
    add_run_arguments(parser, 'work_dirs/dvt_mechanism')


def compare_views(seed: int, scenes: str, sizes: Sizes) -> Values:
    """Return correlations of ``F`` from fewer views with references, and CPU seconds, by solver and number of views.

    The reference is ``F`` in closed form without the pattern, from as many other views. Every seed has its own views
    and its own scenes.
    """
    return compare_solver_views(seed, read_scenes(Path(scenes), 'training', sizes.train).images, sizes)


def compare_probes(seed: int, scenes: str, sizes: Sizes) -> Values:
    """Return the metrics of linear probes by name; see :func:`dvt_parts.compared_probes.compare_features`.

    Every seed has its own views, and its own weights and order of both trainings.
    """
    train, test = (read_scenes(Path(scenes), split) for split in ('training', 'validation'))
    return compare_features(seed, train, test, sizes)


def compute(function: Callable[..., Values], *arguments: object) -> Values:
    """Call a function of a part."""
    return function(*arguments)


def probe_record(values: list[Values], seconds: float, sizes: Sizes) -> Record:
    """Return the record of the pattern switched on and off."""
    rows = []
    for kind, title in (('natural', 'no pattern'), ('pattern', 'known pattern')):
        for name in (RAW, DVT, CONTROL):
            measured = {key: [part[f'{kind} {name}'][key] for part in values] for key in PROBES}
            rows.append(Row(f'{title}: {name}', measured, None if name == RAW else f'{title}: {RAW}'))
    title = 'Linear segmentation with and without a known pattern in the features'
    return _record(title, PROBES, rows, len(values), seconds, sizes)


def views_record(views: list[Values], probes: list[Values], seconds: float, sizes: Sizes) -> Record:
    """Return the record of the number of views."""
    rows, raw = [], 'raw features'
    for name in views[0]:
        if name != 'seconds':
            measured = {key: [part[name][key] for part in views] for key in CORRELATIONS if key in views[0][name]}
            key = f'pattern {name}'
            if key in probes[0]:
                measured['mIoU'] = [part[key]['mIoU'] for part in probes]
            rows.append(Row(name, measured, None if name == raw or 'mIoU' not in measured else raw))
    return _record('Stage 1 from fewer views', CORRELATIONS, rows, len(views), seconds, sizes)


def _record(
    title: str, metrics: dict[str, Metric], rows: list[Row], seeds: int, seconds: float, sizes: Sizes
) -> Record:
    seen = dict(minutes=round(seconds / 60, 1), threads=1, data=DATA.format(**sizes._asdict()))
    return Record(title, 'mechanism', seeds=list(range(seeds)), metrics=metrics, rows=rows, **seen, **environment())


def main(args: argparse.Namespace) -> None:
    """Compute the parts that have no values yet, and write the records.

    Raises:
        UserError: If the number of seeds is not positive.
    """
    if args.seeds < 1:
        raise UserError(f'--seeds {args.seeds}: give at least 1')
    sizes, scenes = Sizes(), args.out / 'scenes'
    args.out.mkdir(parents=True, exist_ok=True)
    draw_scenes(scenes, sizes.train, sizes.test, seed=1)  # the ViT was trained on scenes of seed 0
    functions = dict(probes=compare_probes, views=compare_views)
    parts = {
        f'{name}{seed}': (function, seed, str(scenes), sizes)
        for seed in range(args.seeds)
        for name, function in functions.items()
    }
    values = run_parts(compute, parts, args.out, args.jobs)
    probes, views = ({key: part for key, part in values.items() if key.startswith(name)} for name in functions)
    first = probe_record(list(probes.values()), total_seconds(probes), sizes)
    save_record(RESULTS / 'pattern.json', first)
    second = views_record(list(views.values()), list(probes.values()), total_seconds(views), sizes)
    save_record(RESULTS / 'views.json', second)
    print(
        'records: configs/dvt/results/pattern.json and views.json; python tools/experiments/tables.py writes the tables'
    )


if __name__ == '__main__':
    run_as_tool(main, add_arguments, __doc__, EXAMPLE)
