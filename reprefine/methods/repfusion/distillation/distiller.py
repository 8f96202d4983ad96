"""Distillation of a diffusion model: the student regresses the teacher's features at chosen timesteps."""

from collections.abc import Sequence
from typing import Any

from mmengine.model import BaseModel
from torch import Tensor, nn

from reprefine.engine.errors import UserError
from reprefine.engine.losses import rename_task_loss
from reprefine.registry import MODELS

from ..labels import labels_of
from ..teacher.diffusion_teacher import DiffusionTeacher
from ..teacher.shared_teacher import HoldsTeacher
from .student import Student


@MODELS.register_module()
class RepFusionDistiller(HoldsTeacher, BaseModel):
    """Student, projectors and loss; the teacher stays outside, and how timesteps are chosen is not known here.

    Checkpoints hold ``student.backbone.*``, from which a downstream model starts, ``student.neck.*``,
    ``projectors.*`` and, if there is one, ``head.*``.

    Args:
        student: Dict of configs ``backbone`` and, optionally, ``neck``.
        student_layers: Layers of the student that learn, one for each layer of the teacher.
        teacher: Config of a :class:`DiffusionTeacher`.
        loss: Config of a :class:`FeatureLoss`.
        timestep_source: Config of a :class:`TimestepSource`; None if a hook brings it.
        data_preprocessor: Config, by default of mmpretrain's for classification. Its ``mean`` and ``std`` tell how to
            get back to the pixels that the teacher sees.
        head: Config of a head of mmpretrain on the student's neck, whose loss on the labels is added; None: the student
            learns from the teacher alone.
        init_cfg: mmengine's initialisation.

    Attributes:
        timestep_source: What chooses timesteps.

    Raises:
        UserError: If student and teacher have different numbers of layers.
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
        init_cfg: Any = None,
    ) -> None:
        if isinstance(data_preprocessor, dict):
            data_preprocessor = {'type': 'mmpretrain.ClsDataPreprocessor', **data_preprocessor}
        super().__init__(data_preprocessor, init_cfg)
        held: DiffusionTeacher = MODELS.build(teacher)
        if len(student_layers) != len(held.channels):
            raise UserError(f'{len(student_layers)} student_layers for {len(held.channels)} layers of the teacher')
        self.hold(held)
        self.student = Student(student['backbone'], student.get('neck'), student_layers)
        self.loss_function = MODELS.build(loss)
        pairs = zip(self.student.widths(), held.channels, strict=True) if self.loss_function.projects else ()
        self.projectors = nn.ModuleList(nn.Conv2d(ours, theirs, kernel_size=1) for ours, theirs in pairs)
        self.head = None if head is None else MODELS.build(head)
        self.timestep_source = None
        if timestep_source is not None:
            self.timestep_source = MODELS.build(timestep_source)
            self.timestep_source.bind(held.num_timesteps, len(held.channels))

    def forward(self, inputs: Tensor, data_samples: list | None = None, mode: str = 'tensor') -> Any:
        """Return the student's recorded maps, or the losses.

        Args:
            inputs: Images ``[N, 3, H, W]`` from the preprocessor.
            data_samples: One a sample, with labels if the choice of timesteps or the teacher needs them.
            mode: ``'tensor'`` or ``'loss'``.

        Raises:
            UserError: If predictions are asked for.
        """
        if mode == 'loss':
            return self.loss(inputs, data_samples)
        if mode == 'tensor':
            return self.student(inputs)
        raise UserError('a distiller predicts nothing: train without validation, or add KNNMonitorHook')

    def loss(self, inputs: Tensor, data_samples: list | None = None) -> dict[str, Tensor]:
        """Return ``loss_feat``, with a head its loss, ``loss_task``, and the timesteps ``[N]`` for the log.

        Args:
            inputs: Images ``[N, 3, H, W]``.
            data_samples: One a sample.

        Raises:
            UserError: If nothing chooses timesteps.
        """
        source = self.timestep_source
        if source is None:
            raise UserError('the distiller has no timestep_source: configure one, or add RLTimestepSelectorHook')
        images = self.teacher.prepare(inputs, *self._normalisation())
        timesteps = source.select(images, data_samples)
        targets = self.teacher(images, timesteps, labels_of(data_samples, inputs.device))
        source.observe(timesteps, targets, data_samples)
        features, maps = self.student.features_and_maps(inputs)
        if self.loss_function.projects:
            maps = [projector(recorded) for projector, recorded in zip(self.projectors, maps, strict=True)]
        source.observe_student(maps)
        if source.pair is not None:
            maps, targets = [maps[source.pair]], [targets[source.pair]]
        losses = dict(loss_feat=self.loss_function(maps, targets), timesteps=timesteps.float())
        if self.head is not None:
            losses |= rename_task_loss(self.head.loss(features, data_samples))
        return losses

    def extract_feat(self, inputs: Tensor) -> tuple[Tensor, ...]:
        """Return the backbone's maps of images ``[N, 3, H, W]``, as monitors of nearest neighbours ask for them."""
        return self.student['backbone'](inputs)

    def get_layer_depth(self, param_name: str) -> tuple[int, int]:
        """Return the depth of a parameter and the number of depths, for mmpretrain's layer-wise learning-rate decay.

        Those of the student's backbone are what they are without a distiller; all others, such as projectors, learn at
        the base rate.

        Args:
            param_name: Name of the parameter.

        Raises:
            UserError: If the backbone has no depths.
        """
        backbone = self.student['backbone']
        if not hasattr(backbone, 'get_layer_depth'):
            raise UserError(
                f'student.backbone is a {type(backbone).__name__}, which has no get_layer_depth, but layer-wise '
                'learning-rate decay needs one: drop optim_wrapper.constructor, or take another backbone'
            )
        return backbone.get_layer_depth(param_name.removeprefix('student.'), 'backbone.')

    def _normalisation(self) -> tuple[Tensor, Tensor]:
        mean, std = (getattr(self.data_preprocessor, name, None) for name in ('mean', 'std'))
        if mean is None:
            raise UserError('the teacher needs to know the pixels: give data_preprocessor a mean and a std')
        return mean, std
