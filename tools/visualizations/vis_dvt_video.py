"""Draw the features of the frames of a video, raw or denoised, in colours that stay the same throughout."""

import argparse
from pathlib import Path

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
    parser.add_argument('--out', type=Path, required=True, help='video to write (.mp4, .avi), or folder')
    parser.add_argument('--denoiser', metavar='FILE', help='weights of a trained denoiser; without it: raw features')
    parser.add_argument('--size', type=int, nargs=2, metavar=('H', 'W'), help="instead of the config's")
    parser.add_argument('--clusters', type=int, default=8, metavar='K', help='groups of tokens (default: 8)')
    parser.add_argument('--basis', type=Path, metavar='FILE.npz', help='draw by these axes of colour too')
    parser.add_argument('--save-basis', type=Path, metavar='FILE.npz', help='write the axes of the first frame')
    parser.add_argument('--fps', type=float, default=20, help='frames a second of the video (default: 20)')
    parser.add_argument('--device', help='where to compute (default: a GPU if there is one)')
    parser.add_argument('--cfg-options', nargs='+', action=OptionsAction, metavar='KEY=VALUE', help='change settings')


def main(args: argparse.Namespace) -> None:
    """Run the tool."""
    from tqdm import tqdm

    from reprefine.methods.dvt.visualization.video import read_frames, save_basis

    painter, write, close = make_painter(args), *make_writer(args)
    try:
        for frame in tqdm(read_frames(args.source), unit='frame'):
            write(painter.paint(frame))
    finally:
        close()
    if args.save_basis:
        save_basis(painter.first, args.save_basis)
    print(args.out)


def make_painter(args: argparse.Namespace):
    """Return what draws the frames."""
    import torch

    from reprefine.methods.dvt import DVTDenoiser, Stage1, Stage1Config
    from reprefine.methods.dvt.visualization.video import FramePainter, load_basis

    settings = Stage1Config.from_config(load_config(args.config, args.cfg_options))
    stage1 = Stage1(settings, args.device or ('cuda' if torch.cuda.is_available() else 'cpu'))
    neck = None
    if args.denoiser:
        # Denoisers are trained with patches side by side; their positions are resampled to any other grid.
        grid = [side // stage1.patch_size for side in settings.image_size]
        neck = DVTDenoiser(stage1.channels(), grid, checkpoint=args.denoiser)
        neck.init_weights()
        neck.to(stage1.device)
    size = tuple(args.size or settings.image_size)
    basis = load_basis(args.basis) if args.basis else None
    return FramePainter(stage1.backbone, neck, size, settings.mean, settings.std, basis, args.clusters, stage1.device)


def make_writer(args: argparse.Namespace):
    """Return what writes a frame, and what ends the writing."""
    import cv2

    from reprefine.visualization.images import write_png

    count = 0
    video = None

    def write(picture) -> None:
        nonlocal count, video
        count += 1
        if not args.out.suffix:
            write_png(picture, args.out / f'{count:06d}.png')
            return
        if video is None:
            args.out.parent.mkdir(parents=True, exist_ok=True)
            codec = cv2.VideoWriter_fourcc(*('MJPG' if args.out.suffix == '.avi' else 'mp4v'))
            video = cv2.VideoWriter(str(args.out), codec, args.fps, picture.shape[1::-1])
            if not video.isOpened():
                raise UserError(f'{args.out} cannot be written as a video; name an .mp4 or .avi file, or a folder')
        video.write(picture[..., ::-1].copy())

    def close() -> None:
        if video is not None:
            video.release()

    return write, close


if __name__ == '__main__':
    run_as_tool(main, add_arguments, __doc__, EXAMPLE)
