"""Distillation of a diffusion model: the student regresses the teacher's features at chosen timesteps."""

from collections.abc import Sequence
from typing import Any

import torch
from mmengine.model import BaseModel
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from reprefine.engine.errors import UserError
from reprefine.registry import MODELS

from .labels import labels_of
from .probing import find_layer
from .shared import HoldsTeacher
from .teacher import DiffusionTeacher


class Recorder:
    """Forward hook that keeps a copy of a layer's last output; a deep copy of the model gets its own.

    The copy is needed because a later layer may work in place, and the last call counts because a ResNet block runs
    its activation several times. What runs after :meth:`take`, such as the recomputation of a checkpointed stage during
    the backward pass, is not recorded.
    """

    def __init__(self) -> None:
        self.output: Tensor | None = None
        self._layer: nn.Module | None = None
        self._handle: RemovableHandle | None = None
        self._is_recording = False

    def start(self, layer: nn.Module) -> None:
        """Record ``layer`` from now on, which may have been replaced since the last time, such as by SyncBN."""
        if layer is not self._layer:
            if self._handle is not None:
                self._handle.remove()
            self._layer, self._handle = layer, layer.register_forward_hook(self)
        self._is_recording = True

    def __call__(self, module: nn.Module, inputs: Any, output: Any) -> None:
        """Keep the output; of several maps, or a map and a class token, the first."""
        while isinstance(output, (tuple, list)):
            output = output[0]
        if self._is_recording:
            self.output = output.clone()

    def take(self) -> Tensor | None:
        """Return the output, let go of it, and record no more."""
        self._is_recording = False
        output, self.output = self.output, None
        return output


class Student(nn.ModuleDict):
    """A backbone and a neck whose inner layers are recorded.

    Args:
        backbone: Config of a backbone that returns a tuple of maps.
        neck: Config of a neck that takes that tuple; None: there is none.
        layers: Paths of the layers to record, such as ``backbone.layer4.1.relu`` or ``neck``.

    Raises:
        UserError: If there is no such layer.
    """

    def __init__(self, backbone: dict, neck: dict | None, layers: Sequence[str]) -> None:
        super().__init__({'backbone': MODELS.build(backbone)})
        if neck is not None:
            self['neck'] = MODELS.build(neck)
        self.layers = tuple(layers)
        self.recorders = [Recorder() for _ in self.layers]
        for layer in self.layers:
            find_layer(self, layer)

    def forward(self, images: Tensor) -> list[Tensor]:
        """Return the recorded maps ``[N, C, H, W]`` of images ``[N, 3, H, W]``.

        Raises:
            UserError: If a layer was not run, has no map, or would teach nothing.
        """
        for layer, recorder in zip(self.layers, self.recorders, strict=True):
            recorder.start(self.get_submodule(layer))
        features = self['backbone'](images)
        if 'neck' in self:
            self['neck'](features)
        maps = [recorder.take() for recorder in self.recorders]
        for layer, recorded in zip(self.layers, maps, strict=True):
            self._check(layer, recorded)
        return maps

    def _check(self, layer: str, recorded: Tensor | None) -> None:
        if recorded is None or recorded.dim() != 4:
            raise UserError(f'student layer {layer} yields no map of features')
        if not torch.is_grad_enabled() or recorded.requires_grad:
            return
        if any(parameter.requires_grad for parameter in self.parameters()):  # else nothing is to learn
            raise UserError(
                f'student layer {layer} is recorded without its graph, so that no weight would learn from it: it is '
                'frozen, or within a stage that recomputes its activations; record a later layer, or leave that stage '
                'out of activation_checkpointing (with_cp=False)'
            )

    @torch.no_grad()
    def widths(self, side: int = 64) -> list[int]:
        """Return the number of channels of each recorded layer, found out with an empty image.

        Args:
            side: Height and width of the image; an HRNet needs a multiple of 32.
        """
        mode = self.training
        maps = self.eval()(torch.zeros(1, 3, side, side))
        self.train(mode)
        return [recorded.shape[1] for recorded in maps]


@MODELS.register_module()
class RepFusionDistiller(HoldsTeacher, BaseModel):
    """Student, projectors and loss; the teacher stays outside, and how timesteps are chosen is not known here.

    Checkpoints hold ``student.backbone.*``, from which a downstream model starts, ``student.neck.*`` and
    ``projectors.*``.

    Args:
        student: Dict of configs ``backbone`` and, optionally, ``neck``.
        student_layers: Layers of the student that learn, one for each layer of the teacher.
        teacher: Config of a :class:`.teacher.DiffusionTeacher`.
        loss: Config of a :class:`.losses.FeatureLoss`.
        timestep_source: Config of a :class:`.select.TimestepSource`; None if a hook brings it.
        data_preprocessor: Config, by default of mmpretrain's for classification. Its ``mean`` and ``std`` tell how to
            get back to the pixels that the teacher sees.
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
        raise UserError('a distiller has no head that predicts: train without validation, or add KNNMonitorHook')

    def loss(self, inputs: Tensor, data_samples: list | None = None) -> dict[str, Tensor]:
        """Return ``loss_feat``, and the timesteps ``[N]`` for the log.

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
        maps = self.student(inputs)
        if self.loss_function.projects:
            maps = [projector(recorded) for projector, recorded in zip(self.projectors, maps, strict=True)]
        if source.pair is not None:
            maps, targets = [maps[source.pair]], [targets[source.pair]]
        return dict(loss_feat=self.loss_function(maps, targets), timesteps=timesteps.float())

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
