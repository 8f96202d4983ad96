"""Distillation from a diffusion model: a student regresses the teacher's features at selected timesteps."""

from collections.abc import Sequence
from typing import Any

import torch
from mmengine.model import BaseModel
from mmengine.structures import BaseDataElement
from torch import Tensor, nn

from reprefine.engine.errors import UserError
from reprefine.engine.losses import rename_task_loss
from reprefine.registry import MODELS

from ..functional import check_timesteps
from ..labels import get_labels
from ..teacher.diffusion_teacher import DiffusionTeacher
from ..teacher.shared_teacher import TeacherMixin
from .evaluation import feature_samples
from .student import Student


@MODELS.register_module()
class RepFusionDistiller(TeacherMixin, BaseModel):
    """Student, projectors and loss, with the teacher outside the module tree.

    Timesteps come from :attr:`timestep_source`; the distiller does not depend on how they are selected. Checkpoints
    hold ``student.backbone.*``, from which a downstream model is initialised, ``student.neck.*``, ``projectors.*`` and,
    if there is a head, ``head.*``.

    Args:
        student: Dict of the config ``backbone`` and, optionally, of the config ``neck``.
        student_layers: Dotted paths of the student layers to train, one for each layer of the teacher.
        teacher: Config of a :class:`DiffusionTeacher`.
        loss: Config of a :class:`DistillationLoss`.
        timestep_source: Config of a :class:`TimestepSource`; None if a hook sets it.
        data_preprocessor: Config, by default of mmpretrain's ``ClsDataPreprocessor``. Its ``mean`` and ``std`` are used
            to denormalise the images for the teacher.
        head: Config of an mmpretrain head on the student's neck, whose loss on the labels is added; None: the student
            learns from the teacher only.
        eval_timesteps: Timesteps at which validation compares student and teacher, for :class:`StudentR2`.
        init_cfg: Initialisation config of mmengine.

    Attributes:
        timestep_source: Selects the timestep of each image.

    Raises:
        UserError: If the backbone is missing, student and teacher have different numbers of layers, or an evaluation
            timestep is out of range.
    """

    def __init__(
        self,
        student: dict[str, Any],
        student_layers: Sequence[str],
        teacher: dict[str, Any],
        loss: dict[str, Any],
        timestep_source: dict[str, Any] | None = None,
        data_preprocessor: Any = None,
        head: dict[str, Any] | None = None,
        eval_timesteps: Sequence[int] = (),
        init_cfg: Any = None,
    ) -> None:
        if isinstance(data_preprocessor, dict):
            data_preprocessor = {'type': 'mmpretrain.ClsDataPreprocessor', **data_preprocessor}
        super().__init__(data_preprocessor, init_cfg)
        diffusion_teacher: DiffusionTeacher = MODELS.build(teacher)
        teacher_channels = diffusion_teacher.channels
        if len(student_layers) != len(teacher_channels):
            raise UserError(
                f'{len(student_layers)} student_layers for {len(teacher_channels)} layers of the teacher: give one each'
            )
        if 'backbone' not in student:
            raise UserError('RepFusionDistiller: student has no backbone: give student=dict(backbone=dict(type=...))')
        self.set_teacher(diffusion_teacher)
        self.student = Student(student['backbone'], student.get('neck'), student_layers)
        self.loss_function = MODELS.build(loss)
        pairs = zip(self.student.channels(), teacher_channels, strict=True) if self.loss_function.projects else ()
        self.projectors = nn.ModuleList(nn.Conv2d(c_s, c_t, kernel_size=1) for c_s, c_t in pairs)
        self.head = None if head is None else MODELS.build(head)
        self.eval_timesteps = tuple(eval_timesteps)
        check_timesteps(self.eval_timesteps, diffusion_teacher.num_timesteps, 'eval_timesteps')
        self.timestep_source = None
        if timestep_source is not None:
            self.timestep_source = MODELS.build(timestep_source)
            self.timestep_source.bind(diffusion_teacher.num_timesteps, len(teacher_channels))

    def forward(self, inputs: Tensor, data_samples: list | None = None, mode: str = 'tensor') -> Any:
        """Return the student's recorded maps, the losses, or the pooled features of student and teacher.

        Args:
            inputs: Images ``[N, 3, H, W]`` from the preprocessor.
            data_samples: One a sample, with labels if the timestep source or the teacher needs them.
            mode: ``'tensor'``, ``'loss'`` or ``'predict'``.
        """
        if mode == 'loss':
            return self.loss(inputs, data_samples)
        if mode == 'tensor':
            return self.student(inputs)
        return self.predict(inputs, data_samples)

    def loss(self, inputs: Tensor, data_samples: list | None = None) -> dict[str, Tensor]:
        """Return ``loss_feat``, with a head ``loss_task``, and the timesteps ``[N]``, which are logged.

        Args:
            inputs: Images ``[N, 3, H, W]``.
            data_samples: One a sample.

        Raises:
            UserError: If there is no timestep source.
        """
        source = self.timestep_source
        if source is None:
            raise UserError('the distiller has no timestep_source: configure one, or add RLTimestepSelectorHook')
        images = self.teacher.prepare(inputs, *self._mean_and_std())
        timesteps = source.select(images, data_samples)
        targets = self.teacher(images, timesteps, get_labels(data_samples, inputs.device))
        source.observe(timesteps, targets, data_samples)
        features, maps = self.student.features_and_maps(inputs)
        maps = self._project(maps)
        source.observe_student(maps)
        if source.pair is not None:
            maps, targets = [maps[source.pair]], [targets[source.pair]]
        losses = dict(loss_feat=self.loss_function(maps, targets), timesteps=timesteps.float())
        if self.head is not None:
            losses |= rename_task_loss(self.head.loss(features, data_samples))
        return losses

    @torch.no_grad()
    def predict(self, inputs: Tensor, data_samples: list | None = None) -> list[BaseDataElement]:
        """Return the pooled features of student and teacher at the evaluation timesteps, for :class:`StudentR2`.

        Args:
            inputs: Images ``[N, 3, H, W]``.
            data_samples: One a sample, with labels if the teacher needs them.

        Returns:
            See :func:`feature_samples`.

        Raises:
            UserError: If there are no evaluation timesteps, or the loss has no projectors.
        """
        if not self.eval_timesteps or not self.loss_function.projects:
            missing = 'eval_timesteps' if self.loss_function.projects else 'projectors, such as with HintLoss,'
            raise UserError(
                f'a distiller without {missing} predicts nothing: train without validation, or add KNNMonitorHook; '
                'reprefine.StudentR2 needs eval_timesteps and a loss with projectors'
            )
        maps = self._project(self.student(inputs))
        images, labels = self.teacher.prepare(inputs, *self._mean_and_std()), get_labels(data_samples, inputs.device)
        timesteps = torch.tensor(self.eval_timesteps, device=inputs.device)[:, None].expand(-1, len(images))
        with self.teacher.rng.restarted():
            targets = [self.teacher(images, t, labels) for t in timesteps]
        return feature_samples(maps, targets, self.eval_timesteps)

    def _project(self, maps: list[Tensor]) -> list[Tensor]:
        if not self.loss_function.projects:
            return maps
        return [projector(recorded) for projector, recorded in zip(self.projectors, maps, strict=True)]

    def extract_feat(self, inputs: Tensor) -> tuple[Tensor, ...]:
        """Return the backbone's maps of images ``[N, 3, H, W]``, for ``KNNMonitorHook``."""
        return self.student['backbone'](inputs)

    def get_layer_depth(self, param_name: str) -> tuple[int, int]:
        """Return the depth of a parameter and the number of depths, for mmpretrain's layer-wise learning-rate decay.

        Parameters of the backbone have the depths that they have without a distiller; all others, such as those of
        projectors, have the base learning rate.

        Args:
            param_name: Name of the parameter.

        Raises:
            UserError: If the backbone has no ``get_layer_depth``.
        """
        backbone = self.student['backbone']
        if not hasattr(backbone, 'get_layer_depth'):
            raise UserError(
                f'student.backbone is a {type(backbone).__name__}, which has no get_layer_depth, but layer-wise '
                'learning-rate decay needs one: remove optim_wrapper.constructor, or use another backbone'
            )
        return backbone.get_layer_depth(param_name.removeprefix('student.'), 'backbone.')

    def _mean_and_std(self) -> tuple[Tensor, Tensor]:
        mean, std = (getattr(self.data_preprocessor, name, None) for name in ('mean', 'std'))
        if mean is None:
            raise UserError(
                'the data_preprocessor has no mean and std, by which the images are denormalised for the teacher: set '
                'both'
            )
        return mean, std
