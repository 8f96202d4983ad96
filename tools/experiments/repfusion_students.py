"""Shared by the experiments of RepFusion: training in this process, and the evaluation of a student."""

import itertools
import shutil
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from runner import config_file
from torch import Tensor, nn

from reprefine.engine.cli.launch import load_config
from reprefine.engine.runner import Runner
from reprefine.methods.repfusion import r_squared
from reprefine.methods.repfusion.teacher.linear_probe import logistic_regression_accuracy
from reprefine.tasks.classification.datasets.digits import SmallDigits, draw_per_class

# Runs of one second must not share their log.
_RUNS = itertools.count()
FINETUNE = 'repfusion/classification/resnet14-narrow_repfusion-pre_5e_mnist5k-32px'


def build_runner(
    config: str, options: Mapping[str, Any], work_dir: Path, teacher: dict[str, Any] | None = None
) -> Runner:
    """Return the Runner of a config, which writes no checkpoints and logs only warnings.

    Args:
        config: Path below ``configs`` without suffix.
        options: Dotted keys and their values.
        work_dir: Work dir, which is emptied.
        teacher: Config of the teacher; None: that of the config.
    """
    shutil.rmtree(work_dir, ignore_errors=True)
    cfg = load_config(str(config_file(config)), {**options, 'default_hooks.checkpoint.interval': -1})
    cfg.work_dir, cfg.log_level, cfg.experiment_name = str(work_dir), 'WARNING', f'{work_dir.name}{next(_RUNS)}'
    if teacher is not None:
        cfg.model.teacher = teacher
    return Runner.from_cfg(cfg)


def schedule(epochs: int) -> dict[str, Any]:
    """Return the options of a training of ``epochs`` that is evaluated after the last one on the test images."""
    keys = ('train_cfg.max_epochs', 'train_cfg.val_interval', 'param_scheduler.0.T_max')
    return {**dict.fromkeys(keys, epochs), 'val_dataloader.dataset.split': 'test'}


@cache
def load_split(split: str) -> tuple[Tensor, np.ndarray]:
    """Return the images ``[N, 3, 32, 32]`` of a split of MNIST-5k, and their labels ``[N]``."""
    from mmpretrain.datasets.transforms import Resize

    data = SmallDigits('mnist5k', split)
    samples = [data.get_data_info(index) for index in range(len(data))]
    images = [torch.from_numpy(Resize(scale=32)(sample)['img']).permute(2, 0, 1) for sample in samples]
    return torch.stack(images), np.array([sample['gt_label'] for sample in samples])


def preprocess(model: nn.Module, images: Tensor) -> Tensor:
    """Return images ``[N, 3, 32, 32]`` of :func:`load_split` as inputs of a model."""
    return model.data_preprocessor(dict(inputs=images, data_samples=None))['inputs']


@torch.no_grad()
def pooled_features(model: nn.Module, images: Tensor) -> np.ndarray:
    """Return the pooled features ``[N, C]`` of the backbone in evaluation mode."""
    model.eval()
    batches = preprocess(model, images).split(250)
    return torch.cat([model.extract_feat(batch)[-1].mean(dim=(2, 3)) for batch in batches]).double().numpy()


def linear_accuracy(model: nn.Module, per_class: int, seed: int) -> float:
    """Return the test accuracy in percent of a linear classifier of frozen features, fitted to few labelled images.

    Args:
        model: Model with ``extract_feat``.
        per_class: Labelled images of each class.
        seed: Seed of their choice, which is that of the fine-tuning.
    """
    (images, labels), (test_images, test_labels) = load_split('train'), load_split('test')
    chosen = draw_per_class(labels, per_class, seed)
    features, test_features = pooled_features(model, images[chosen]), pooled_features(model, test_images)
    return logistic_regression_accuracy(features, labels[chosen], test_features, test_labels)


@torch.no_grad()
def student_r2(model: nn.Module, timestep: int) -> float:
    """Return ``R^2`` of a distiller on the validation images at one timestep."""
    model.eval()
    model.eval_timesteps = (timestep,)
    batches = preprocess(model, load_split('val')[0]).split(250)
    samples = [sample for batch in batches for sample in model.predict(batch)]
    student = torch.stack([sample.student_feats[0] for sample in samples])
    return r_squared(student, torch.stack([sample.teacher_feats[0][0] for sample in samples]))


def finetuned_accuracy(
    model: nn.Module, per_class: int, epochs: int, seed: int, folder: Path, prefix: str = 'student.backbone.'
) -> float:
    """Return the test accuracy in percent of a backbone that is fine-tuned with few labelled images.

    Args:
        model: Trained model.
        per_class: Labelled images of each class.
        epochs: Number of epochs.
        seed: Seed of the choice of images and of the training.
        folder: Folder of the checkpoint and of the work dir.
        prefix: Prefix of the backbone's weights in the model.
    """
    file = folder / 'student.pth'
    torch.save(dict(state_dict=model.state_dict()), file)
    data = {'train_dataloader.dataset.per_class': per_class, 'train_dataloader.dataset.subset_seed': seed}
    start = {'model.backbone.init_cfg.checkpoint': str(file), 'model.backbone.init_cfg.prefix': prefix}
    start['randomness.seed'] = seed
    runner = build_runner(FINETUNE, {**schedule(epochs), **data, **start}, folder / 'finetune')
    runner.train()
    return runner.message_hub.get_scalar('val/accuracy/top1').current()
