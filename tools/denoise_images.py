"""Stage 1 of DVT: denoise the features of each image and store them with the raw ones, to train the denoiser."""

import argparse
import os
import sys
from pathlib import Path

from reprefine.engine.cli.launch import OptionsAction, load_config
from reprefine.engine.cli.tool import run_as_tool
from reprefine.engine.errors import UserError

EXAMPLE = """examples:
  python tools/denoise_images.py configs/dvt/stage1/vit-b-dinov2_denoise-field_768views.py \\
      --data-root data/VOCdevkit --list data/VOCdevkit/voc_train.txt --num 10000
  torchrun --nproc-per-node 8 tools/denoise_images.py CONFIG --data-root DIR --out DIR   # 8 GPUs

Run it again to resume: images whose files are complete and valid are skipped. With --save-components these include
the files of the components, so that a second run adds them."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the tool."""
    parser.add_argument('config', help='config with backbone, native and stage1 (configs/dvt/stage1)')
    parser.add_argument('--data-root', type=Path, required=True, help='folder of the images')
    parser.add_argument(
        '--list', type=Path, metavar='FILE', help='list of images, one per line, relative to --data-root (default: all)'
    )
    parser.add_argument(
        '--out', type=Path, help='folder for raw_features and denoised_features (default: out_dir of the config)'
    )
    parser.add_argument('--num', type=int, metavar='N', help='only the first N images of the list')
    parser.add_argument('--shard', default='1/1', metavar='I/N', help='only shard I of N, counted from 1')
    parser.add_argument('--solver', choices=('closed-form', 'field'), help="solver (default: the config's)")
    parser.add_argument(
        '--dtype', choices=('float32', 'float16'), help="type of the stored features (default: the config's)"
    )
    parser.add_argument('--device', help='device to compute on (default: a GPU if available)')
    parser.add_argument('--save-components', action='store_true', help='also store the artifact and the residual')
    parser.add_argument('--cfg-options', nargs='+', action=OptionsAction, metavar='KEY=VALUE', help='change settings')


def main(args: argparse.Namespace) -> None:
    """Run the tool."""
    import torch

    from reprefine import __version__
    from reprefine.methods.dvt import FeaturePairs, Stage1, Stage1Config
    from reprefine.methods.dvt.stage1.denoise_list import check_disk, denoise_all, needed_bytes
    from reprefine.methods.dvt.stage1.image_list import list_images, shard

    cfg = load_config(args.config, args.cfg_options)
    changes = {'solver': args.solver, 'storage_dtype': args.dtype}
    settings = Stage1Config.from_config(cfg, **{name: value for name, value in changes.items() if value})
    out = args.out or cfg.get('out_dir')
    if out is None:
        raise UserError(f'{args.config} has no out_dir; give the folder of the features with --out')
    listed = list_images(args.data_root, args.list)[: args.num]
    names = shard(listed, *parse_shard(args.shard))
    device = args.device or (f'cuda:{os.environ.get("LOCAL_RANK", "0")}' if torch.cuda.is_available() else 'cpu')
    stage1 = Stage1(settings, device)
    if not any(settings.backbone.get(key) for key in ('pretrained', 'checkpoint', 'init_cfg')):
        print('note: the config has no pre-trained weights of the backbone; its weights are random')
    model_id, dtype = stage1.extractor.model_id, settings.storage_dtype
    pairs = FeaturePairs(out, model_id, names, dtype, with_components=args.save_components)
    pending = sum(not pairs.is_complete(name) for name in names)
    print(f'{model_id}: {len(names) - pending} of {len(names)} images are complete', flush=True)
    if pending:
        print(check_disk(Path(out), needed_bytes(stage1, pairs)), flush=True)
    pairs.write_meta({**stage1.metadata(), 'version': __version__})
    pairs.write_list(listed)
    done, failed = denoise_all(stage1, pairs, args.data_root)
    print(f'{out}: {done} images denoised')
    for name, reason in failed.items():
        print(f'skipped {name}: {reason}', file=sys.stderr)
    if failed:
        raise UserError(f'{len(failed)} of {pending} images were skipped; fix them and run again')


def parse_shard(text: str) -> tuple[int, int]:
    """Return I and N of ``I/N``.

    Raises:
        UserError: If the text has another form.
    """
    index, _, count = text.partition('/')
    if not (index.isdigit() and count.isdigit()):
        raise UserError(f'--shard {text} is not I/N; write for instance 1/8')
    return int(index), int(count)


if __name__ == '__main__':
    run_as_tool(main, add_arguments, __doc__, EXAMPLE)
