"""Show what each method does, on real images and from small shipped checkpoints, in a few minutes on a CPU.

Writes report.html, one page that holds everything, and report.md.
"""

import argparse
import importlib
import time
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType

from records import versions
from runner import ROOT, prepare_folder
from sections import NAMES

from reprefine.engine.cli.tool import run_as_tool

EXAMPLE = """example:
  python tools/experiments/tour.py --only dvt pddr --out work_dirs/demo
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the tool."""
    parser.add_argument('--only', nargs='+', choices=NAMES, default=NAMES, help='methods to show; default all')
    parser.add_argument('--out', type=Path, default=ROOT / 'work_dirs/demo', help='folder (default: work_dirs/demo)')


def show(modules: Mapping[str, ModuleType], out: Path) -> dict:
    """Run the sections one after the other, with their names and the time left on the terminal.

    Args:
        modules: A module for each method, with ``TITLE``, ``SECONDS``, the time it usually takes, and
            ``run(folder, progress)``, which returns a :class:`sections.section.Section` and calls ``progress`` with
            the finished fraction.
        out: Folder of the report; each section has a folder in it.

    Returns:
        Sections by title.
    """
    from tqdm import tqdm

    shown, finished = {}, 0
    bar_format = '{desc}: {percentage:3.0f}% [{elapsed} elapsed, {remaining} left]'
    with tqdm(total=sum(module.SECONDS for module in modules.values()), bar_format=bar_format) as bar:
        for number, (name, module) in enumerate(modules.items(), 1):
            bar.set_description_str(f'{number}/{len(modules)} {module.TITLE}')
            (out / name).mkdir(exist_ok=True)

            def progress(fraction: float, start: int = finished, seconds: int = module.SECONDS) -> None:
                bar.n = start + fraction * seconds
                bar.refresh()

            shown[module.TITLE] = module.run(out / name, progress)
            finished += module.SECONDS
            progress(0, finished)
    return shown


def main(args: argparse.Namespace) -> None:
    """Run the sections and write the report."""
    import torch
    from report_page import write_report

    prepare_folder(args.out, resume=False)
    start = time.perf_counter()
    modules = {name: importlib.import_module(f'sections.{name}') for name in NAMES if name in args.only}
    sections = show(modules, args.out)
    minutes, used = (time.perf_counter() - start) / 60, ', '.join(f'{k} {v}' for k, v in versions().items())
    write_report(sections, args.out, f'Computed in {minutes:.1f} minutes on {torch.get_num_threads()} threads: {used}.')
    for title, section in sections.items():
        print(f'\n{title}\n{section.number.strip()}')
    print(f'\nreport: {args.out / "report.html"}')


if __name__ == '__main__':
    run_as_tool(main, add_arguments, __doc__, EXAMPLE)
