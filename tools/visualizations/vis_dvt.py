"""Plot how stage 1 of DVT decomposes the features of an image: one row of tiles per view."""

import argparse
import os
from collections.abc import Sequence
from pathlib import Path

from reprefine.engine.cli.launch import OptionsAction, load_config
from reprefine.engine.cli.tool import run_as_tool
from reprefine.engine.errors import UserError

EXAMPLE = """example:
  python tools/visualizations/vis_dvt.py configs/dvt/stage1/vit-b-dinov2_denoise-closed-form_768views.py \\
      cat.jpg --out out

Tiles from left to right: the view; PCA, clusters, norm and similarity to the central token of the raw features, and
of the denoised features; PCA and norm of the shared artifact; norms of the true and the predicted residual; PCA of
artifact plus residual. The layout "paper" leaves out the norms of the artifact and of the true residual."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the tool."""
    parser.add_argument('config', help='config with backbone, native and stage1 (configs/dvt/stage1)')
    parser.add_argument('images', nargs='+', type=Path, metavar='IMAGE', help='image files')
    parser.add_argument('--out', type=Path, required=True, metavar='DIR', help='folder for one PNG per image')
    parser.add_argument(
        '--data-root',
        type=Path,
        metavar='DIR',
        help='folder that image names are relative to; names seed the fields, which equal those of '
        'tools/denoise_images.py with the same folder (default: the common folder)',
    )
    parser.add_argument('--layout', choices=('readme', 'paper'), default='readme', help='14 or 12 tiles (default: 14)')
    parser.add_argument('--views', type=int, default=5, metavar='N', help='random views besides the whole image')
    parser.add_argument('--solver', choices=('closed-form', 'field'), help="solver (default: the config's)")
    parser.add_argument('--device', help='device to compute on (default: a GPU if available)')
    parser.add_argument('--cfg-options', nargs='+', action=OptionsAction, metavar='KEY=VALUE', help='change settings')


def main(args: argparse.Namespace) -> None:
    """Run the tool."""
    import torch

    from reprefine.engine.data_checks.images import read_image
    from reprefine.methods.dvt import Stage1, Stage1Config
    from reprefine.methods.dvt.visualization.panels import decompose_views
    from reprefine.methods.dvt.visualization.plot import strip
    from reprefine.visualization.images import write_png

    cfg = load_config(args.config, args.cfg_options)
    settings = Stage1Config.from_config(cfg, **({'solver': args.solver} if args.solver else {}))
    names, images = relative_names(args.images, args.data_root), [read_image(file) for file in args.images]
    stage1 = Stage1(settings, args.device or ('cuda' if torch.cuda.is_available() else 'cpu'))
    for name, image in zip(names, images, strict=True):
        out = args.out / f'{name}.png'
        write_png(strip(decompose_views(stage1, image, name, args.views), args.layout), out)
        print(out, flush=True)


def relative_names(images: Sequence[Path], data_root: Path | None) -> list[str]:
    """Return the paths of images relative to a folder, by default their common folder.

    Raises:
        UserError: If an image is not below the folder.
    """
    files = [Path(os.path.abspath(image)) for image in images]
    root = Path(os.path.abspath(data_root or os.path.commonpath([file.parent for file in files])))
    for file in files:
        if not file.is_relative_to(root):
            raise UserError(f'{file} is not below --data-root {root}; give a folder that holds all images')
    return [file.relative_to(root).as_posix() for file in files]


if __name__ == '__main__':
    run_as_tool(main, add_arguments, __doc__, EXAMPLE)
