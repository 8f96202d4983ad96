"""Plot the raw or denoised features of the frames of a video, with the same colours in all frames."""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from reprefine.engine.cli.launch import OptionsAction, load_config
from reprefine.engine.cli.tool import run_as_tool
from reprefine.engine.errors import UserError

EXAMPLE = """example:
  python tools/visualizations/vis_dvt_video.py \\
      configs/dvt/stage1/vit-b-dinov2_denoise-closed-form_768views.py walk.mp4 \\
      --denoiser denoiser.pth --out walk-features.mp4 --size 490 854 --cfg-options +backbone.stride=4

With a folder as --out the frames are written as PNG files."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the tool."""
    parser.add_argument('config', help='config with backbone and native (configs/dvt/stage1)')
    parser.add_argument('source', type=Path, help='video, or folder of images')
    parser.add_argument('--out', type=Path, required=True, help='video to write (.mp4, .avi), or folder for PNG files')
    parser.add_argument('--denoiser', metavar='FILE', help='checkpoint of a trained denoiser (default: raw features)')
    parser.add_argument(
        '--size',
        type=int,
        nargs=2,
        metavar=('H', 'W'),
        help="size of resized frames (default: the config's)",
    )
    parser.add_argument('--clusters', type=int, default=8, metavar='K', help='number of clusters (default: 8)')
    parser.add_argument('--basis', type=Path, metavar='FILE.npz', help='also plot in this PCA basis')
    parser.add_argument('--save-basis', type=Path, metavar='FILE.npz', help='write the PCA basis of the first frame')
    parser.add_argument('--fps', type=float, default=20, help='frames per second of the video (default: 20)')
    parser.add_argument('--device', help='device to compute on (default: a GPU if available)')
    parser.add_argument('--cfg-options', nargs='+', action=OptionsAction, metavar='KEY=VALUE', help='change settings')


def main(args: argparse.Namespace) -> None:
    """Run the tool."""
    from tqdm import tqdm

    from reprefine.methods.dvt.visualization.video import read_frames, save_basis

    plotter, write, close = make_plotter(args), *make_writer(args)
    try:
        for frame in tqdm(read_frames(args.source), unit='frame'):
            write(plotter.plot(frame))
    finally:
        close()
    if args.save_basis:
        save_basis(plotter.first_basis, args.save_basis)
    print(args.out)


def make_plotter(args: argparse.Namespace) -> Any:
    """Return the plotter of the frames."""
    import torch

    from reprefine.methods.dvt import DVTDenoiser, FeatureExtractor, Stage1Config
    from reprefine.methods.dvt.visualization.video import FramePlotter, load_basis

    settings = Stage1Config.from_config(load_config(args.config, args.cfg_options))
    extractor = FeatureExtractor(settings, args.device or ('cuda' if torch.cuda.is_available() else 'cpu'))
    neck = None
    if args.denoiser:
        # Denoisers are trained at stride = patch size; their position embeddings are resampled to other grids.
        grid = [side // extractor.patch_size for side in settings.image_size]
        neck = DVTDenoiser(extractor.channels(), grid, checkpoint=args.denoiser)
        neck.init_weights()
        neck.to(extractor.device)
    size = tuple(args.size or settings.image_size)
    basis = load_basis(args.basis) if args.basis else None
    return FramePlotter(
        extractor.backbone, neck, size, settings.mean, settings.std, basis, args.clusters, extractor.device
    )


def make_writer(args: argparse.Namespace) -> tuple[Callable[[np.ndarray], None], Callable[[], None]]:
    """Return a function that writes a frame, and one that closes the video."""
    import cv2

    from reprefine.visualization.images import write_png

    count = 0
    video = None

    def write(frame: np.ndarray) -> None:
        nonlocal count, video
        count += 1
        if not args.out.suffix:
            write_png(frame, args.out / f'{count:06d}.png')
            return
        if video is None:
            args.out.parent.mkdir(parents=True, exist_ok=True)
            codec = cv2.VideoWriter_fourcc(*('MJPG' if args.out.suffix == '.avi' else 'mp4v'))
            video = cv2.VideoWriter(str(args.out), codec, args.fps, frame.shape[1::-1])
            if not video.isOpened():
                raise UserError(f'{args.out} cannot be written as a video; give an .mp4 or .avi file, or a folder')
        video.write(frame[..., ::-1].copy())

    def close() -> None:
        if video is not None:
            video.release()

    return write, close


if __name__ == '__main__':
    run_as_tool(main, add_arguments, __doc__, EXAMPLE)
