"""Names of other libraries outside their public interface that the code uses, each with the reason.

To be checked when a version is raised. ``test_host_internals.py`` resolves each name with the installed packages, and
finds names that are missing here.
"""

from tests.helpers.methods import declared

# Names that begin with an underscore: read, called or overridden.
PRIVATE = {
    'mmdet.models.detectors.base.BaseDetector._forward': 'what a detector has to define',
    'mmengine.config.Config._cfg_dict': 'the entries themselves: attribute access would look keys up and copy',
    'mmengine.config.Config._get_base_modules': 'wrapped, so that a new-style config may import from text configs',
    'mmengine.config.Config._get_cfg_path': 'wrapped, so that dicts inherited from us have no scope',
    'mmengine.config.DictAction._parse_int_float_bool': 'OptionsAction reads one value as the class it extends',
    'mmengine.config.DictAction._parse_iterable': 'overridden, so that --cfg-options reads dicts in lists',
    'mmengine.hooks.CheckpointHook._save_best_checkpoint': 'extended: deletes the former best after the new one',
    'mmengine.hooks.CheckpointHook._save_checkpoint_with_step': 'extended: deletes old ones after the new one',
    'mmengine.hooks.EMAHook._swap_ema_parameters': 'a run stopped in a validation saves the trained weights',
    'mmengine.hooks.EarlyStoppingHook._check_stop_condition': 'a resumed run replays the scores of earlier validations',
    'mmengine.hooks.Hook._after_iter': "overridden: the drawing of mmseg's hook, by this name in both families",
    'mmengine.logging.HistoryBuffer._count_history': 'pending values are appended in one call',
    'mmengine.logging.HistoryBuffer._log_history': 'pending values are appended in one call',
    'mmengine.logging.MMLogger._instance_dict': 'the log files that an error message names',
    'mmengine.logging.MessageHub._instance_dict': 'the deferred hub of a run is registered before mmengine creates one',
    'mmengine.logging.MessageHub._log_scalars': 'overridden: pending values are read from the device first',
    'mmengine.logging.MessageHub._set_resumed_keys': 'update_scalar marks what a checkpoint keeps',
    'mmengine.model.BaseDataPreprocessor._non_blocking': 'non-blocking copies from pinned memory; no setter exists',
    'mmengine.model.PretrainedInit._get_init_info': 'the log of what was initialised by what',
    'mmengine.optim.OptimWrapper._accumulative_counts': 'whether gradients are accumulated',
    'mmengine.optim.OptimWrapper._clip_grad': 'clipping is changed only if no subclass overrides it',
    'mmengine.optim.OptimWrapper._inner_count': 'whether gradients are accumulated',
    'mmengine.optim._ParamScheduler': 'base class of schedulers; mmengine exports no other',
    'mmengine.optim._ParamScheduler._get_value': 'what a scheduler has to define',
    'mmengine.registry.Registry._locations': 'a module that was not imported is imported on look-up',
    'mmengine.runner.EpochBasedTrainLoop._decide_current_val_interval': 'whether a validation was due at the stop',
    'mmengine.runner.EpochBasedTrainLoop._epoch': 'set to resume a run',
    'mmengine.runner.EpochBasedTrainLoop._iter': 'set to resume a run',
    'mmengine.runner.EpochBasedTrainLoop._max_epochs': 'whether a validation was due at the stop',
    'mmengine.runner.IterBasedTrainLoop._decide_current_val_interval': 'whether a validation was due at the stop',
    'mmengine.runner.IterBasedTrainLoop._iter': 'set to resume a run',
    'mmengine.runner.IterBasedTrainLoop._max_iters': 'whether a validation was due at the stop',
    'mmengine.runner.Runner._experiment_name': 'the message hub of the run is made before the runner asks for it',
    'mmengine.runner.Runner._has_loaded': 'a checkpoint is loaded once, by load_or_resume',
    'mmengine.runner.Runner._hooks': 'hooks of the package are put among those of the config',
    'mmengine.runner.Runner._init_model_weights': 'extended: checks of the checkpoints in init_cfg',
    'mmengine.runner.Runner._load_from': 'load_or_resume reads the checkpoint that the config names',
    'mmengine.runner.Runner._randomness_cfg': 'the loader is built with the seeds of the run',
    'mmengine.runner.Runner._resume': 'whether a run is resumed',
    'mmengine.runner.Runner._test_loop': 'its workers are shut down; the property would build it',
    'mmengine.runner.Runner._train_dataloader': 'exchanged before the loop is built, which starts the workers',
    'mmengine.runner.Runner._train_loop': 'its workers are shut down; the property would build it',
    'mmengine.runner.Runner._val_loop': 'its workers are shut down; the property would build it',
    'mmengine.runner.BaseLoop._runner': 'a loop without data, to plot schedules',
    'mmengine.runner.CheckpointLoader._schemes': 'every registered loader of checkpoints is wrapped',
    'mmengine.model.BaseModule._params_init_info': 'the log of what was initialised by what',
    'mmengine.model.ImgDataPreprocessor._channel_conversion': 'whether the images of a batch are BGR',
    'mmpretrain.datasets.BaseDataset._metainfo': 'class names that are known only when the folders have been read',
    'mmpretrain.models.ClsHead._get_loss': 'the loss of the host, of scores that are computed otherwise',
    'mmpretrain.models.MobileNetV2._freeze_stages': 'extended: the last convolution, which the host cannot freeze',
    'mmpretrain.models.MoCo._dequeue_and_enqueue': 'overridden: the queue also takes the last, smaller batch',
    'mmpretrain.models.VisionTransformer._freeze_stages': 'called once the stem is exchanged',
    'mmpretrain.models.VisionTransformer._prepare_pos_embed': 'overridden: position tables of oblong images',
    'mmseg.datasets.transforms.RandomFlip._flip': 'extended: sides change their labels with each image',
    'mmseg.engine.hooks.SegVisualizationHook._visualizer': 'draws at the size of the label map',
    'mmseg.models.decode_heads.decode_head.BaseDecodeHead._transform_inputs': 'picks the features that in_index names',
    'torch.Tensor._version': 'whether other code has written into a tensor',
    'torch.UntypedStorage._cdata': 'which tensors share their memory',
    'torch._C._current_graph_task_id': 'whether a backward pass recomputes a checkpointed layer',
    'torch._foreach_add_': 'all parameters in one kernel',
    'torch._foreach_copy_': 'all parameters in one kernel',
    'torch._foreach_div_': 'all parameters in one kernel',
    'torch._foreach_lerp_': 'all parameters in one kernel',
    'torch._foreach_mul_': 'all parameters in one kernel',
    'torch._foreach_norm': 'all parameters in one kernel',
    'torch._foreach_sub': 'all parameters in one kernel',
    'torch._sample_dirichlet': 'draws of Dirichlet with a generator, which torch.distributions does not take',
    'torch.nn.Conv2d._conv_forward': 'the convolution with other weights, whatever its padding mode',
    'torch.nn.Conv2d._reversed_padding_repeated_twice': 'the padding, as F.pad takes it',
    'torch.nn.Module._apply': 'extended: what follows a move to another device or type',
    'torch.nn.Module._buffers': 'own buffers by name, without those of children',
    'torch.nn.Module._load_from_state_dict': 'extended: other forms of a layer in a state dict',
    'torch.nn.Module._load_state_dict_pre_hooks': 'whether a module, or a copy of one, has a certain one',
    'torch.nn.Module._metadata': 'versions of modules that come with a state dict',
    'torch.nn.Module._modules': 'children by attribute, shared ones repeatedly',
    'torch.nn.Module._parameters': 'own parameters by name, without those of children',
    'torch.nn.modules.batchnorm._BatchNorm': 'the only class that all batch norms share',
    'torch.ops.aten._scaled_dot_product_flash_attention_for_cpu': 'its FLOPs, for which torch has no formula',
    'torch.optim.Optimizer._optimizer_step_post_hooks': 'optimisers with hooks on their step are left alone',
    'torch.optim.Optimizer._optimizer_step_pre_hooks': 'optimisers with hooks on their step are left alone',
    'torch.utils._python_dispatch': 'every tensor that an operation makes',
    'torch.utils._pytree': 'the tensors in nested arguments',
    'torch.utils.data.DataLoader._index_sampler': 'overridden: batches are drawn by a seed of their own',
    'torch.utils.data.DataLoader._iterator': 'persistent workers are ended',
    'torch.utils.data.dataloader._MultiProcessingDataLoaderIter._shutdown_workers': 'persistent workers are ended',
    'numpy._core.multiarray._reconstruct': 'allowed in checkpoints, as is scalar beside it',
    'pickle._Pickler': 'toy CIFAR-10 is pickled as Python 2 did; the C class cannot be extended so',
    'atexit._run_exitfuncs': 'a process of a finished group ends without the teardown that may abort it',
}

# Public functions and tables that are replaced or extended.
REPLACED = {
    'mmengine.config.config.FormatCode': 'the text of a config is formatted once and not for every checkpoint',
    'mmengine.config.config.is_installed': 'a package is looked for once; it reloads pkg_resources each time',
    'mmengine.config.utils.load': 'metafiles are read once',
    'mmengine.config.utils.MODULE2PACKAGE': "`reprefine::`, and `mmseg::` with the forks, in a config's _base_",
    'mmengine.fileio.YamlHandler.load_from_fileobj': 'YAML files are loaded as data; its own loader calls functions',
    'mmengine.model.BaseModel.parse_losses': 'of the model of a run: its losses are checked',
    'mmengine.optim.OptimWrapper.clip_func': 'of a wrapper of a run: the norm is logged without waiting for the device',
    'mmengine.optim.OptimWrapper.step': 'of a wrapper of a run: its gradients are checked',
    'mmengine.runner.Runner.from_cfg': 'reprefine.everywhere makes tools of OpenMMLab build our Runner',
    'mmengine.runner.Runner.save_checkpoint': 'of a runner: pending checks are read first',
    'mmcv.adjust_hue': 'decreases the hue under numpy 2',
    'mmcv.image.adjust_hue': 'decreases the hue under numpy 2',
    'mmcv.image.photometric.adjust_hue': 'decreases the hue under numpy 2',
}

# Attributes that we set on objects of other libraries.
OURS = {
    '_denoise_state': 'the collector of noise losses is found at the model',
    '_is_sped_up': 'an optimiser wrapper is sped up once',
}

# The forks do without; the code asks whether it is there.
OFFICIAL_ONLY = {'mmengine.config.config.FormatCode'}

# A method lists its own in tests/methods/<method>/host_internals.py, under the same names.
for module in declared('host_internals').values():
    PRIVATE |= getattr(module, 'PRIVATE', {})
    REPLACED |= getattr(module, 'REPLACED', {})
    OURS |= getattr(module, 'OURS', {})
