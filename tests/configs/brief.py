"""Options that make any config of the tree a run of two iterations, with small images and nothing downloaded.

What only a method needs is declared in ``tests/methods/<method>/brief.py``, all of it optional: ``options(path, node)``
returns options for the dict ``node`` at ``path`` of a config, ``ONE_EPOCH_LOOPS`` are types of training loops that are
one epoch as they are, ``CONVOLUTIONAL`` types of backbones that take images of any size, and ``clear_caches()`` forgets
classes made from networks of the host libraries, whose depth the walk changes.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmengine.config import Config

from reprefine.engine.config_check.walk import iter_dicts
from tests.configs.small_networks import few
from tests.helpers.methods import declared

LOADERS = ('train_dataloader', 'val_dataloader', 'test_dataloader')
# Sizes of images and crops; those above LARGE are divided by SHRINK.
SIZES = ('scale', 'scales', 'crop_size', 'size', 'stride')
LARGE, SHRINK = 320, 8
# Networks without embeddings of positions see images that are smaller still.
LARGE_FOR_CONVS, SHRINK_FOR_CONVS = 128, 4
POSE_SIZES, POSE_SHRINK = ('input_size', 'heatmap_size'), 4
CONVOLUTIONAL = ('ResNet', 'ResNetV1c')
# Batches of identities stay as they are: that many are what the data must have. Their images are a quarter as large.
REID_SIZES, REID_SHRINK = ('scale', 'crop_size', 'img_size'), 4
# Training loops that are one epoch as they are.
ONE_EPOCH_LOOPS = ('reprefine.MemoryBankLoop',)
# An untrained detector finds nothing above a threshold, and hundreds of thousands of boxes below it.
DETECTOR = dict(score_thr=0.0, max_per_img=6, nms_pre=50)
ROOT = Path(__file__).parents[2]


def brief_options(cfg: Config) -> list[str]:
    """Return the ``--cfg-options`` of a brief run of ``cfg``: two iterations of two samples, few batches to test.

    Re-identification keeps its batches, and all images of the test.
    """
    options: dict[str, Any] = {'randomness.seed': 0}  # a run that fails can be repeated
    evaluator = cfg.get('test_evaluator')
    reid = isinstance(evaluator, Mapping) and evaluator.get('type') == 'reprefine.ReIDMetric'
    whole = cfg.model.get('test_cfg', {}).get('mode') == 'slide_flip'
    convolutional = _backbone(cfg).get('type') in (*CONVOLUTIONAL, *_of_methods('CONVOLUTIONAL'))
    for name in LOADERS:
        if cfg.get(name):
            options |= _without_workers(name, cfg[name])
            options |= _few_batches(name, cfg[name]) if reid else _few_samples(name, cfg[name], 1 if whole else 2)
    train_cfg = cfg.get('train_cfg') or {}
    if train_cfg.get('max_iters'):
        options |= {'train_cfg.max_iters': 2, 'train_cfg.val_interval': 2, 'default_hooks.checkpoint.interval': 2}
    elif train_cfg:
        options['default_hooks.checkpoint.interval'] = 1
        if train_cfg.get('type') not in (*ONE_EPOCH_LOOPS, *_of_methods('ONE_EPOCH_LOOPS')):
            options['train_cfg.max_epochs'] = 1
    options['default_hooks.checkpoint.save_optimizer'] = False
    for path, node in iter_dicts(cfg.get('param_scheduler'), 'param_scheduler'):
        if node.get('begin'):
            options[f'{path}.begin'] = 0  # what begins after the end of the brief run is refused
    if cfg.get('load_from'):
        options['load_from'] = None
    if cfg.model.get('queue_len', 0) > LARGE:
        options |= _small_contrast(cfg)
    for path, node in iter_dicts(cfg._cfg_dict):
        if path.startswith('model'):
            options |= _without_download(path, node)
            if node.get('type') == 'reprefine.TimmViT':
                options[f'{path}.model_args.depth'] = 1
            if node.get('type') == 'reprefine.TimmViT' and node.get('checkpoint'):
                options[f'{path}.checkpoint'] = None
            if node.get('type') == 'reprefine.SplitBN':
                options[f'{path}.num_splits'] = 2
            options |= _few_layers(path, node)
        if path.startswith(('model.train_cfg', 'model.test_cfg')):
            options |= {f'{path}.{key}': value for key, value in DETECTOR.items() if key in node}
            if node.get('type') == 'RandomSampler':
                options[f'{path}.num'] = 6
        if path.startswith(('model', 'custom_hooks.')):  # variables of the config are not checked against a type
            for rules in declared('brief').values():
                options |= rules.options(path, node) if hasattr(rules, 'options') else {}
        if reid and path.startswith((*LOADERS, 'model.backbone')):
            small = {key: node[key] for key in REID_SIZES if key in node}
            options |= {f'{path}.{key}': _small(value, REID_SHRINK) for key, value in small.items()}
        if cfg.model.type == 'TopdownPoseEstimator' and path.startswith((*LOADERS, 'model.')):
            options |= {f'{path}.{key}': _small(node[key], POSE_SHRINK) for key in POSE_SIZES if key in node}
        # Depth is tested on whole images in one window; small windows would be many.
        if path.startswith((*LOADERS, 'model.')) and node.get('mode') != 'slide_flip':
            factors = {key: _shrink_of(node[key], convolutional) for key in SIZES if key in node}
            options |= {f'{path}.{key}': _small(node[key], factor) for key, factor in factors.items() if factor > 1}
    return [f'{key}={value}' for key, value in options.items()]


def _of_methods(name: str) -> list[str]:
    return [item for rules in declared('brief').values() for item in getattr(rules, name, ())]


def _backbone(cfg: Config) -> Mapping:
    model = cfg.model.get('student') or cfg.model
    return model.get('backbone') or {}


def _few_layers(path: str, node: Mapping) -> dict[str, Any]:
    options: dict[str, Any] = {}
    if isinstance(node.get('num_layers'), int):  # blocks of a ViT, all alike
        options['num_layers'] = 1
        if 'feedforward_channels' in node:
            options['feedforward_channels'] = node['embed_dims']
    elif node.get('type') == 'MixVisionTransformer':
        options['num_layers'] = few(node['num_layers'])
    elif node.get('type') == 'SwinTransformer':
        options['depths'] = few(node['depths'])
    elif node.get('type') == 'reprefine.WideResNetCIFAR':
        options['depth'] = 10
    elif {'num_modules', 'num_blocks'} <= node.keys():  # a stage of HRNet
        options |= dict(num_modules=1, num_blocks=[1 for _ in node['num_blocks']])
    return {f'{path}.{key}': value for key, value in options.items()}


def _without_workers(name: str, loader: Mapping) -> dict[str, Any]:
    options = {f'{name}.num_workers': 0}
    if 'persistent_workers' in loader:
        options[f'{name}.persistent_workers'] = False
    return options


def _few_batches(name: str, loader: Mapping) -> dict[str, Any]:
    if name != 'train_dataloader':
        return {}
    if loader.get('batch_sampler'):
        return {f'{name}.dataset.indices': 3 * loader.batch_size}
    return {f'{name}.batch_size': 4, f'{name}.dataset.indices': 8}


def _few_samples(name: str, loader: Mapping, tested: int) -> dict[str, Any]:
    # Some hosts test images of different sizes, one by one.
    batch = min(2, loader.get('batch_size', 2))
    options = {f'{name}.batch_size': batch}
    batches = dict(train_dataloader=2, val_dataloader=1, test_dataloader=tested)[name]
    for path, node in iter_dicts(loader['dataset'], f'{name}.dataset'):
        plain = not ({'dataset', 'datasets', 'transforms'} & node.keys())
        if plain and ({'data_root', 'source'} & node.keys()):
            options[f'{path}.indices'] = batches * batch
    return options


def _small_contrast(cfg: Config) -> dict[str, Any]:
    """Return options for a short queue; a ResNet-50 gets a quarter of its width, and small crops."""
    options = {'model.queue_len': 64}
    if cfg.model.backbone.get('depth') == 50:
        options |= {f'model.backbone.{part}_channels': 16 for part in ('stem', 'base')}
        options |= {'model.neck.in_channels': 512, 'train_dataloader.dataset.pipeline.1.transforms.0.0.scale': 64}
    return options


def _without_download(path: str, node: Mapping) -> dict[str, Any]:
    options = {}
    init = node.get('init_cfg')
    if isinstance(init, Mapping) and init.get('type') == 'Pretrained':
        options[f'{path}.init_cfg'] = None
    if pretrained := node.get('pretrained'):
        options[f'{path}.pretrained'] = None if isinstance(pretrained, str) else False
    return options


def _shrink_of(size: Any, convolutional: bool) -> int:
    largest = max(_numbers(size), default=0)
    if largest > LARGE:
        return 2 * SHRINK if convolutional else SHRINK
    return SHRINK_FOR_CONVS if convolutional and largest > LARGE_FOR_CONVS else 1


def _numbers(value: Any) -> list[float]:
    if isinstance(value, list | tuple):
        return [number for item in value for number in _numbers(item)]
    return [value] if isinstance(value, int | float) and not isinstance(value, bool) else []


def _small(value: Any, factor: int) -> Any:
    if isinstance(value, list | tuple):
        return type(value)(_small(item, factor) for item in value)
    return max(1, int(value) // factor)


def data_roots(cfg: Config) -> list[str]:
    """Return the folders that the config's data sets lie in, none if they need no files."""
    found = [node.get('data_root') for name in LOADERS for _, node in iter_dicts(cfg.get(name) or {})]
    return sorted({root.rstrip('/') for root in found if isinstance(root, str)})
