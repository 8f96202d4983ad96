"""The schema of a config: the registries that build each dict, and the keys that the builder itself takes.

Classes that are built by default are named, not imported. A module whose registered class or function takes a
dataloader, dataset, pipeline or another of :data:`KINDS` declares so at its top level, for instance
``CONFIG_SCHEMA = {'KNNMonitorHook.bank': 'dataloader'}``.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cache

from reprefine.registered import declared

from .keys import TOP_LEVEL_KEYS
from .rules import type_name


def _no_default(node: Mapping) -> None:
    return None


@dataclass(frozen=True)
class NodeSchema:
    """The schema of a dict at some position of a config.

    Attributes:
        registries: Names of the registries that may build the dict, as in ``mmengine.registry``.
        default: Returns the class of a dict without ``type``, as ``module:name``; ``None`` leaves its keys unchecked.
        extra: Keys that the builder takes beside the arguments of the class.
        children: Schema of a key, or of the argument ``Type.key``, where it differs from this one.
        by_name: Whether a string at this position is the name of a class.
    """

    registries: tuple[str, ...] = ()
    default: Callable[[Mapping], str | None] = _no_default
    extra: frozenset[str] = frozenset()
    children: Mapping[str, 'NodeSchema'] = field(default_factory=dict)
    by_name: bool = False

    def child(self, key: str, node: Mapping) -> 'NodeSchema':
        """Return the schema of the entry ``key`` of ``node``; by default the same registries build it."""
        arguments = [f'{owner}.{key}' for owner in (type_name(node), type_name(node, 'base_type'))]
        for name in (*arguments, key):
            for schemas in (self.children, declared_schemas()):
                if name in schemas:
                    return schemas[name]
        if not self.registries:
            return PLAIN
        container = node.get('type') is None and self.default(node) is None
        return self if container else replace(self, default=_no_default, extra=frozenset())


EVALUATOR_CLASS = 'mmengine.evaluator.evaluator:Evaluator'
OPTIM_WRAPPER_CLASS = 'mmengine.optim.optimizer.optimizer_wrapper:OptimWrapper'


def always(target: str) -> Callable[[Mapping], str]:
    """Return the ``default`` of a schema that is always for the class or function ``module:name``."""
    return lambda node: target


def _train_loop(node: Mapping) -> str:
    return f'mmengine.runner.loops:{"EpochBased" if node.get("by_epoch", True) else "IterBased"}TrainLoop'


def _optim_wrapper(node: Mapping) -> str | None:
    # Without an optimizer it is a dict of wrappers, one for each part of the model.
    return OPTIM_WRAPPER_CLASS if 'optimizer' in node else None


PLAIN = NodeSchema()
TRANSFORM = NodeSchema(
    ('TRANSFORMS',),
    children={
        'encoder': NodeSchema(('KEYPOINT_CODECS',)),
        'RandAugment.policies': NodeSchema(('TRANSFORMS',), extra=frozenset({'magnitude_key', 'magnitude_range'})),
        # Names of the albumentations library.
        'Albu.transforms': PLAIN,
        'Albu.bbox_params': PLAIN,
        'Albumentation.transforms': PLAIN,
    },
)
DATASET = NodeSchema(('DATASETS',), children={'pipeline': TRANSFORM, 'transforms': TRANSFORM})
DATA_SAMPLER = NodeSchema(('DATA_SAMPLERS',))
FUNCTION = NodeSchema(('FUNCTIONS',))
DATALOADER = NodeSchema(
    default=always('torch.utils.data.dataloader:DataLoader'),
    extra=frozenset({'num_batch_per_epoch', 'disable_subprocess_warning'}),
    children={
        'dataset': DATASET,
        'sampler': DATA_SAMPLER,
        'batch_sampler': DATA_SAMPLER,
        'collate_fn': FUNCTION,
        'worker_init_fn': FUNCTION,
    },
)
OVERRIDE = NodeSchema(('WEIGHT_INITIALIZERS',), extra=frozenset({'name'}))
INIT = NodeSchema(('WEIGHT_INITIALIZERS',), extra=frozenset({'override'}), children={'override': OVERRIDE})
MODEL_REGISTRIES = ('MODELS', 'TASK_UTILS', 'KEYPOINT_CODECS', 'BATCH_AUGMENTS', 'TOKENIZER')
# Keys that the parent module pops before it builds the child, and those that mask heads ignore on purpose.
POPPED = {
    'norm_cfg': ('requires_grad',),
    'dcn': ('fallback_on_stride',),
    'upsample_cfg': ('scale_factor',),
    'loss_cls': ('bg_cls_weight',),
    'decode_head': ('strides', 'in_index'),
    'panoptic_head': ('strides',),
    'track_head': ('strides', 'loss_bbox'),
}
MODEL_PARTS = {
    'init_cfg': INIT,
    'ImageToImageRetriever.prototype': DATALOADER,
    # The ``type`` of these is looked up in mmcv.ops or in a table of the module's own.
    'nms': PLAIN,
    'dqs_cfg': PLAIN,
    'roi_layer': PLAIN,
    'adapt_cfg': PLAIN,
    'LoRAModel.targets': PLAIN,
    **{f'FPG.{way}_trans': PLAIN for way in ('same_up', 'same_down', 'output')},
    **{f'FPG.across_{way}_trans': PLAIN for way in ('lateral', 'down', 'up', 'skip')},
}
MODEL = NodeSchema(MODEL_REGISTRIES, children=MODEL_PARTS)
MODEL_PARTS |= {key: replace(MODEL, extra=frozenset(popped)) for key, popped in POPPED.items()}
HOOK = NodeSchema(
    ('HOOKS',),
    extra=frozenset({'priority'}),
    children={
        'switch_pipeline': TRANSFORM,
        'new_train_pipeline': TRANSFORM,
        'new_train_dataset': DATASET,
        'SwitchRecipeHook.schedule': NodeSchema(
            MODEL_REGISTRIES, children={'pipeline': TRANSFORM, 'train_augments': MODEL, 'loss': MODEL}
        ),
    },
)
METRIC = NodeSchema(('METRICS',), children={'postprocess_tracklet_cfg': NodeSchema(('TASK_UTILS',))})
EVALUATOR = NodeSchema(
    ('METRICS', 'EVALUATOR'),
    default=lambda node: EVALUATOR_CLASS if 'metrics' in node else None,
    children={**METRIC.children, 'metrics': METRIC, 'datasets': DATASET},
)
OPTIM_WRAPPER = NodeSchema(
    ('OPTIM_WRAPPERS',),
    default=_optim_wrapper,
    extra=frozenset({'constructor', 'paramwise_cfg'}),
    children={
        'optimizer': NodeSchema(('OPTIMIZERS',)),
        'constructor': NodeSchema(('OPTIM_WRAPPER_CONSTRUCTORS',), by_name=True),
        'paramwise_cfg': PLAIN,
    },
)
LOOPS = ('LOOPS',)
SCHEDULER = NodeSchema(('PARAM_SCHEDULERS',), extra=frozenset({'convert_to_iter_based', 'epoch_length'}))

# Names that mmengine's Runner gives its hooks; a config adds others freely.
DEFAULT_HOOKS = frozenset({'runtime_info', 'timer', 'sampler_seed', 'logger', 'param_scheduler', 'checkpoint'})

RUNNER_SCHEMAS = {
    'model': MODEL,
    'data_preprocessor': MODEL,
    'train_dataloader': DATALOADER,
    'val_dataloader': DATALOADER,
    'test_dataloader': DATALOADER,
    'train_cfg': NodeSchema(LOOPS, default=_train_loop, extra=frozenset({'by_epoch'})),
    'val_cfg': NodeSchema(LOOPS, default=always('mmengine.runner.loops:ValLoop')),
    'test_cfg': NodeSchema(LOOPS, default=always('mmengine.runner.loops:TestLoop')),
    'val_evaluator': EVALUATOR,
    'test_evaluator': EVALUATOR,
    'optim_wrapper': OPTIM_WRAPPER,
    'param_scheduler': SCHEDULER,
    'default_hooks': replace(HOOK, extra=HOOK.extra | DEFAULT_HOOKS),
    'custom_hooks': HOOK,
    'visualizer': NodeSchema(
        ('VISUALIZERS',),
        default=always('mmengine.visualization.visualizer:Visualizer'),
        children={'vis_backends': NodeSchema(('VISBACKENDS',))},
    ),
    'log_processor': NodeSchema(('LOG_PROCESSORS',), default=always('mmengine.runner.log_processor:LogProcessor')),
    'randomness': NodeSchema(default=always('mmengine.runner.runner:Runner.set_randomness')),
    'auto_scale_lr': NodeSchema(extra=frozenset({'enable', 'base_batch_size'})),
    'env_cfg': NodeSchema(extra=frozenset({'cudnn_benchmark', 'mp_cfg', 'dist_cfg', 'resource_limit'})),
    'model_wrapper_cfg': NodeSchema(
        ('MODEL_WRAPPERS',), default=always('mmengine.model.wrappers.distributed:MMDistributedDataParallel')
    ),
    'finite_check': NodeSchema(default=always('reprefine.engine.finite_check.hook:FiniteCheckHook')),
    'tta_model': MODEL,
    'tta_pipeline': TRANSFORM,
}

# By the names that declarations use.
KINDS = dict(
    dataloader=DATALOADER,
    dataset=DATASET,
    pipeline=TRANSFORM,
    model=MODEL,
    metric=METRIC,
    hook=HOOK,
    optimizer=NodeSchema(('OPTIMIZERS',)),
    plain=PLAIN,
)


@cache
def declared_schemas() -> dict[str, NodeSchema]:
    """Return the schemas of the arguments that modules of the package declare, by ``Type.argument``.

    Raises:
        ValueError: If a declaration names a kind that does not exist.
    """
    kinds = {name: kind for declaration in declared('reprefine', 'CONFIG_SCHEMA') for name, kind in declaration.items()}
    for name, kind in kinds.items():
        if kind not in KINDS:
            raise ValueError(f"CONFIG_SCHEMA: '{name}' is of the unknown kind '{kind}': use {', '.join(KINDS)}")
    return {name: KINDS[kind] for name, kind in kinds.items()}


ROOT = NodeSchema(extra=TOP_LEVEL_KEYS, children=RUNNER_SCHEMAS)
