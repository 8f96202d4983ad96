"""Bad values in a config, and the expected error line; None for a successful run."""

from tests.fuzz.harness import Case


def _cases(table: dict[str, dict[str, str | None]]) -> list[Case]:
    """Return a case for each key and value; ``@`` in a pattern is replaced by the key."""
    return [
        Case(f'{key}={value}', ending and ending.replace('@', key.replace('.', r'\.')), (f'{key}={value}',))
        for key, values in table.items()
        for value, ending in values.items()
    ]


WHOLE = '@: must be an integer'
NUMBER = '@: must be a number'
FLAG = '@: must be True or False'
DICT = '@: must be a dict'
MISSING = r'@.* is registered as'

LOADING = _cases(
    {
        'train_dataloader.batch_size': {
            **dict.fromkeys(['0', '-1', 'None', '2.5', 'two', '[2]', 'True'], WHOLE),
            '1': None,
            '100000': None,
        },
        'train_dataloader.num_workers': dict.fromkeys(['-1', 'None', '1.5', 'many', 'True'], WHOLE),
        'train_dataloader.drop_last': {'yes': FLAG, '3': FLAG},
        'train_dataloader.persistent_workers': {'maybe': FLAG, 'True': None},
        'train_dataloader.pin_memory': {'3': FLAG},
        'train_dataloader.prefetch_factor': {'0': WHOLE, '2': 'ValueError: prefetch_factor'},
        'train_dataloader.timeout': {'-1': NUMBER},
        'train_dataloader.collate_fn': {'3': 'TypeError: collate_fn', 'None': 'TypeError: collate_fn'},
        'train_dataloader.collate_fn.type': {'nothing': MISSING, 'pseudo_collate': None},
        'train_dataloader.sampler.type': {'NoSampler': MISSING, 'InfiniteSampler': 'InfiniteSampler never ends'},
        'train_dataloader.sampler.shuffle': {'maybe': FLAG, 'None': FLAG},
        'train_dataloader.sampler': {'None': None},
        'train_dataloader.dataset': {'None': DICT, '3': DICT},
        'train_dataloader.dataset.indices': {
            '0': 'SmallDigits has no samples',
            '[]': 'SmallDigits has no samples',
            'two': 'TypeError',
            '1.5': 'TypeError: indices should be',
            '[0,999999]': 'IndexError',
            '1': None,
            '-1': None,
            '10000000': None,
        },
        'train_dataloader.dataset.pipeline': {'None': 'KeyError', '3': 'TypeError', '[3]': 'TypeError: transform must'},
        'train_dataloader.dataset.pipeline.1.type': {'NoPack': MISSING},
        'train_dataloader.dataset.source': {'none': 'unknown source', 'None': 'unknown source'},
        'train_dataloader.dataset.split': {'none': 'unknown split', '3': 'unknown split'},
        'train_dataloader.dataset.type': {'NoData': MISSING, 'BaseDataset': "takes no argument 'source'"},
        'train_dataloader': {'None': 'train_dataloader', '3': DICT, '[]': DICT},
        'val_dataloader.batch_size': {'0': WHOLE, 'None': WHOLE},
        'val_dataloader.dataset.indices': {'0': 'SmallDigits has no samples'},
        'val_dataloader.sampler.type': {'InfiniteSampler': 'InfiniteSampler never ends'},
        'val_dataloader': {'None': 'val_dataloader', '3': DICT},
    }
) + [
    Case(
        'drop_last without a whole batch',
        '64 samples, fewer than batch_size = 100, and drop_last leaves no batch',
        ('train_dataloader.batch_size=100', 'train_dataloader.drop_last=True'),
    ),
    Case('workers kept alive', None, ('train_dataloader.num_workers=1', 'train_dataloader.persistent_workers=True')),
]

OPTIMISATION = _cases(
    {
        'optim_wrapper.optimizer.lr': {
            **dict.fromkeys(['-0.1', 'None', 'fast', 'nan', 'inf', '[0.1]', 'True'], NUMBER),
            '0': None,
        },
        'optim_wrapper.optimizer.weight_decay': dict.fromkeys(['-1', 'None', 'x'], NUMBER),
        'optim_wrapper.optimizer.betas': {
            **dict.fromkeys(['[0.9]', '[0.9,1.5]', 'None', '0.9', '[]'], '@: must be a list of numbers'),
            '[0.9,0.99,0.999]': 'ValueError: too many values',
        },
        'optim_wrapper.optimizer': {'None': DICT, '3': DICT},
        'optim_wrapper.optimizer.type': {'NoOpt': MISSING, 'SGD': None},
        'optim_wrapper': {'None': 'optim_wrapper', '3': DICT},
        'optim_wrapper.clip_grad': {'3': DICT, 'None': None},
        'optim_wrapper.clip_grad.max_norm': {
            **dict.fromkeys(['-1', '0', 'None', 'big'], '@: must be a number above 0'),
            '1e30': None,
        },
        'optim_wrapper.accumulative_counts': {
            **dict.fromkeys(['0', '-1', 'None', '1.5'], WHOLE),
            '1000': None,
        },
        'optim_wrapper.paramwise_cfg': {'3': DICT, '[]': DICT, 'None': None},
        'optim_wrapper.paramwise_cfg.norm_decay_mult': {'x': 'TypeError'},
        'train_cfg.max_epochs': dict.fromkeys(['0', '-1', 'None', '1.5', 'ten', '[1]', 'True'], WHOLE),
        'train_cfg.val_interval': {**dict.fromkeys(['0', '-1', 'None', '1.5', 'x'], WHOLE), '1000000': None},
        'train_cfg.val_begin': {'-1': WHOLE, 'x': WHOLE, '100': None},
        'train_cfg.by_epoch': {'None': 'train_cfg', 'False': "takes no argument 'max_epochs'"},
        'train_cfg': {'None': 'train_cfg', '3': DICT, '[]': DICT},
        'val_cfg': {'None': 'val_cfg', '3': DICT},
        'val_evaluator': {'None': 'val_evaluator', '3': DICT},
        'val_evaluator.type': {'NoMetric': MISSING},
        'val_evaluator.topk': {
            '[1,1000]': 'Top-1000 accuracy is unavailable',
            'None': 'TypeError',
            'x': 'TypeError',
            '[-1]': 'RuntimeError: selected index k out of range',
            '[]': 'ValueError',
        },
        'param_scheduler': {'3': DICT, '[]': None, 'None': None},
        'param_scheduler.0.type': {'NoSched': MISSING},
        'param_scheduler.0.begin': {'-1': WHOLE, 'x': WHOLE},
        'param_scheduler.0.by_epoch': {'None': FLAG, 'x': FLAG},
        'param_scheduler.1.T_max': {'0': WHOLE, '-1': WHOLE, 'x': WHOLE},
    }
)

SIZE = WHOLE
REGISTRY = 'TypeError: cfg should be a dict'
MODEL = _cases(
    {
        'model': {'None': 'model: training needs it', '3': DICT, '[]': DICT},
        'model.type': {'NoModel': MISSING, 'None': 'TypeError: type must be'},
        'model.head': {'3': REGISTRY, 'None': 'AttributeError'},
        'model.head.type': {'NoHead': MISSING, 'None': 'TypeError: type must be'},
        'model.head.num_classes': {
            **dict.fromkeys(['0', '-1', 'None', '10.5', 'x'], WHOLE),
            '1': 'IndexError: Target . is out of bounds',
            '5': 'num_classes is 5, but SmallDigits has 10 classes: set it to 10',
            '20': None,
        },
        'model.head.in_channels': {
            **dict.fromkeys(['0', '-1', 'None', 'x'], SIZE),
            '5': 'RuntimeError: mat1 and mat2 shapes cannot be multiplied',
        },
        'model.head.loss.type': {'NoLoss': MISSING},
        'model.head.loss.loss_weight': {'x': 'TypeError', 'None': 'TypeError'},
        'model.backbone': {'3': REGISTRY, 'None': REGISTRY},
        'model.backbone.arch': {'nothing': 'AssertionError: Arch nothing', 'None': 'AssertionError: Custom arch'},
        'model.backbone.arch.embed_dims': {
            **dict.fromkeys(['0', '-1', 'None', 'x'], SIZE),
            '33': 'RuntimeError: shape',
        },
        'model.backbone.arch.num_heads': {'0': 'ZeroDivisionError', '5': 'RuntimeError', 'None': 'TypeError'},
        'model.backbone.arch.num_layers': {'0': 'AssertionError', '-1': 'AssertionError', '1.5': 'TypeError'},
        'model.backbone.drop_rate': dict.fromkeys(['-1', '2', 'x', 'None'], NUMBER),
        'model.backbone.drop_path_rate': dict.fromkeys(['-1', '2', 'x'], NUMBER),
        'model.backbone.img_size': {'0': 'TypeError', 'None': 'TypeError', 'x': 'ValueError', '7': None},
        'model.backbone.patch_size': {'0': 'ZeroDivisionError'},
        'model.backbone.in_channels': {'0': 'RuntimeError', '1': 'RuntimeError', '4': 'RuntimeError'},
        'data_preprocessor': {'3': DICT, 'None': None},
        'data_preprocessor.mean': {'[1,2]': 'RuntimeError', 'x': 'TypeError', '[]': 'RuntimeError'},
        'data_preprocessor.std': dict.fromkeys(
            ['[0,0,0]', '[-1,1,1]', '[]', 'x'], '@: must be a list of numbers above 0'
        ),
        'data_preprocessor.num_classes': {'0': WHOLE, 'x': WHOLE},
    }
)

RUN = _cases(
    {
        'default_hooks': {'None': None, '3': DICT, '[]': DICT},
        'default_hooks.checkpoint': {'3': DICT, '[]': DICT},
        'default_hooks.checkpoint.interval': dict.fromkeys(['0', '-5', 'None', '1.5', 'x'], WHOLE),
        'default_hooks.checkpoint.max_keep_ckpts': {
            **dict.fromkeys(['0', '-5', 'None', '1.5', 'x'], WHOLE),
            '-1': None,
        },
        'default_hooks.checkpoint.save_best': {
            'nothing': 'ValueError: Cannot infer the rule for key nothing',
            'accuracy/none': 'accuracy/none',
            '3': '@: must be a string',
            '[]': None,
            'auto': None,
        },
        'default_hooks.checkpoint.rule': {'sideways': "@: must be 'greater' or 'less'"},
        'default_hooks.checkpoint.by_epoch': {'None': FLAG},
        'default_hooks.checkpoint.filename_tmpl': {'x.pth': '@: must be a file name with', '{}.pth': None},
        'default_hooks.checkpoint.out_dir': {'/proc/none': 'No such file or directory'},
        'default_hooks.logger.interval': dict.fromkeys(['0', '-1', 'None', '1.5', 'x'], WHOLE),
        'default_hooks.timer': {'None': None, '3': DICT},
        'custom_hooks': {
            '3': DICT,
            '[3]': DICT,
            'None': None,
            "[dict(type='NoHook')]": MISSING,
            "[dict(type='EMAHook',priority='x')]": r'@\.0\.priority: must be an integer from 0 to 100',
            "[dict(type='EMAHook',priority=1000)]": r'@\.0\.priority: must be an integer',
        },
        'custom_imports.imports': {'[no_module]': 'set it in the file'},
        'load_from': {
            'none.pth': 'checkpoint none.pth does not exist',
            '3': '@: must be a string',
            '/': 'does not exist',
        },
        'resume': {'3': FLAG, 'x': FLAG, 'True': None},
        'randomness': {'3': DICT, 'None': DICT},
        'randomness.seed': {
            **dict.fromkeys(['-1', 'x', '1.5', '4294967296'], '@: must be an integer from 0 to 4294967295'),
            'None': None,
        },
        'randomness.deterministic': {'x': FLAG},
        'default_scope': {
            'nothing': 'nothing',
            '3': 'scope_name should be a string',
            'mmdet': 'visualizer.type: no vis',
        },
        'work_dir': {'3': '@: must be a string'},
        'log_level': {'LOUD': "@: must be 'CRITICAL'", '3': "@: must be 'CRITICAL'"},
        'log_processor': {'3': 'TypeError'},
        'visualizer': {'3': 'visualizer. is 3'},
        'visualizer.vis_backends': {'3': 'TypeError'},
        'visualizer.vis_backends.0.type': {'NoBackend': MISSING},
        'env_cfg': {'3': DICT},
        'env_cfg.mp_cfg.mp_start_method': {'x': 'ValueError: cannot find context'},
        'min_load_ratio': dict.fromkeys(['2', '-1', 'x'], NUMBER),
        'max_corrupt_samples': {**dict.fromkeys(['-1', 'x', '1.5'], WHOLE), '3': None},
        'runner_type': {'NoRunner': 'NoRunner'},
        'no.such.key': {'3': "'no' is neither in the config"},
    }
)

# Values of a refinement, over its own config.
METHOD = _cases(
    {
        'model.denoise': {'None': None, '3': 'model.denoise: must be a dict, not 3'},
        'model.denoise.include': {
            '3': 'Error',
            'nothing': 'nothing',
            '[]': 'no layer can be converted',
            'None': 'TypeError',
        },
        'model.denoise.loss_weight': {'x': 'Error|loss_weight', 'None': 'Error|loss_weight', '0': None},
        'model.base_type': {
            'None': 'inherit the config of the base model and write',
            '3': 'base_type: must be the name of a type, not 3',
            'NoModel': MISSING,
            'ResNet': 'ResNet takes no argument',
        },
        'model.head.num_classes': {'0': WHOLE, '5': 'num_classes is 5, but SmallDigits has 10 classes'},
        'model.backbone.drop_rate': {'2': NUMBER},
        'model.type': {'reprefine.DenoisRep': MISSING},
        'custom_hooks.0.phase_length': {
            '0': 'phase_length=.*: use an integer',
            '-1': 'phase_length=.*: use an integer',
            'x': 'phase_length=.*: use an integer',
        },
        'custom_hooks.0.type': {'reprefine.DenoisePhase': MISSING},
        'optim_wrapper.paramwise_cfg.custom_keys': {'3': 'Error|custom_keys'},
        'optim_wrapper.paramwise_cfg.custom_keys.denoiser.lr_mult': {'x': 'Error'},
        'train_dataloader.batch_size': {'0': WHOLE, '1': None},
        'load_from': {'none.pth': 'none.pth does not exist'},
        'find_unused_parameters': {'False': None},
    }
)

# Changes between a run and its resumption.
RESUMED = _cases(
    {
        'model.backbone.arch.embed_dims': {'32': 'belongs to another model'},
        'model.head.num_classes': {'12': 'belongs to another model'},
        'model.backbone.arch.num_layers': {'2': 'belongs to another model'},
        'optim_wrapper.optimizer.lr': {'-1': NUMBER},
        'train_dataloader.batch_size': {'0': WHOLE},
        'train_dataloader.dataset.indices': {'0': 'has no samples'},
        'train_cfg.max_epochs': {'0': WHOLE},
        'val_evaluator.topk': {'[1000]': 'Top-1000 accuracy is unavailable'},
        'default_hooks.checkpoint.save_best': {'nothing': 'Cannot infer the rule'},
        'default_hooks.checkpoint.max_keep_ckpts': {'0': WHOLE, '2': None},
        'custom_hooks': {"[dict(type='NoHook')]": MISSING},
        'param_scheduler': {'3': DICT},
    }
)
