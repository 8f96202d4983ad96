"""The distiller: losses, state dict, recorded layers, and errors."""

import copy

import pytest
import torch
from mmengine.model import ExponentialMovingAverage
from mmengine.optim import build_optim_wrapper
from mmengine.registry import MODELS as ROOT_MODELS
from mmengine.registry import init_default_scope
from mmpretrain.structures import DataSample
from torch import nn
from torch.testing import assert_close

from reprefine.engine.errors import UserError
from reprefine.methods.repfusion import RepFusionDistiller, TimestepSource
from reprefine.methods.repfusion.distillation.student import Student
from reprefine.registry import MODELS

from ..tiny import LAYER, TEACHER

BACKBONE = dict(type='mmpretrain.ResNet', depth=18, stem_channels=4, base_channels=4)
PIXELS = dict(mean=[120.0, 115.0, 100.0], std=[60.0, 55.0, 50.0])
HINT = dict(type='reprefine.HintLoss')
UNIFORM = dict(type='reprefine.UniformTimesteps')


@MODELS.register_module()
class InPlaceNet(nn.Module):
    """A convolution and a norm whose output is overwritten by the next activation."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 1)
        self.norm = nn.BatchNorm2d(4)
        self.relu = nn.ReLU(inplace=True)
        self.unused = nn.Conv2d(4, 4, 1)

    def forward(self, x):
        return (self.relu(self.norm(self.conv(x))),)


def distiller(layers=('backbone.layer4.1.relu',), backbone=BACKBONE, neck=None, **options):
    init_default_scope('mmpretrain')
    torch.manual_seed(0)
    given = dict(loss=HINT, timestep_source=UNIFORM, data_preprocessor=PIXELS, teacher=TEACHER) | options
    return RepFusionDistiller(student=dict(backbone=backbone, neck=neck), student_layers=layers, **given)


def images(number=4, size=32):
    return torch.randn(number, 3, size, size, generator=torch.Generator().manual_seed(1))


def samples(number=4):
    return [DataSample().set_gt_label(index % 3) for index in range(number)]


class GivenTimesteps(TimestepSource):
    """Selects given timesteps and records the observations."""

    def __init__(self, timesteps):
        super().__init__()
        self.timesteps, self.observations = timesteps, []

    def select(self, x_teacher, data_samples):
        self.images = x_teacher
        return self.timesteps

    def observe(self, t, teacher_feats, data_samples):
        self.observations.append((t, teacher_feats, data_samples))

    def observe_student(self, student_maps):
        self.student_maps = student_maps


def test_loss_compares_the_projected_map_with_the_teachers_at_the_selected_timesteps():
    model = distiller()
    model.timestep_source = source = GivenTimesteps(torch.tensor([0, 10, 500, 999]))
    x = images()
    losses = model(x, samples(), mode='loss')
    pixels = x * torch.tensor(PIXELS['std']).view(3, 1, 1) + torch.tensor(PIXELS['mean']).view(3, 1, 1)
    small = nn.functional.interpolate(
        pixels / 127.5 - 1, (16, 16), mode='bilinear', align_corners=False, antialias=True
    )
    assert_close(source.images, small)
    (target,) = model.teacher(small, source.timesteps)
    projected = model.projectors[0](model.student(x)[0])
    assert_close(losses['loss_feat'], (projected.mean((2, 3)) - target.mean((2, 3))).square().mean())
    assert losses['timesteps'].tolist() == [0, 10, 500, 999]
    ((t, feats, data_samples),) = source.observations
    assert t is source.timesteps
    assert_close(feats[0], target)
    assert not feats[0].requires_grad
    assert len(data_samples) == 4
    assert_close(source.student_maps, [projected])


def test_only_the_loss_is_summed():
    model = distiller()
    total, log = model.parse_losses(model(images(), samples(), mode='loss'))
    assert_close(total, log['loss_feat'])
    assert 'timesteps' in log


@pytest.mark.parametrize('weight', [1.0, 7.0])
def test_weight_multiplies_only_the_loss(weight):
    model = distiller(loss=dict(HINT, loss_weight=weight))
    model.timestep_source = GivenTimesteps(torch.tensor([1, 2, 3, 4]))
    losses = model(images(), samples(), mode='loss')
    reference = distiller()
    reference.timestep_source = model.timestep_source
    expected = reference(images(), samples(), mode='loss')
    assert_close(losses['loss_feat'], weight * expected['loss_feat'])
    assert_close(losses['timesteps'], expected['timesteps'])


def test_state_dict_and_parameters_are_those_of_student_and_projector():
    model = distiller()
    assert {key.split('.')[0] for key in model.state_dict()} == {'student', 'projectors'}
    assert any(key.startswith('student.backbone.conv1') for key in model.state_dict())
    teacher = {id(parameter) for parameter in model.teacher.parameters()}
    assert teacher
    assert not teacher & {id(parameter) for parameter in model.parameters()}


@pytest.mark.parametrize(
    ('loss', 'projects'),
    [
        ('HintLoss', 1),
        ('DenseLoss', 1),
        ('ContrastiveFeatureLoss', 1),
        ('AttentionTransferLoss', 0),
        ('RelationalLoss', 0),
    ],
)
def test_only_losses_that_need_it_get_a_projector(loss, projects):
    model = distiller(loss=dict(type=f'reprefine.{loss}'))
    assert len(model.projectors) == projects
    losses = model(images(), samples(), mode='loss')
    losses['loss_feat'].backward()
    assert all(p.grad is not None for p in model.projectors.parameters())
    assert model.student['backbone'].conv1.weight.grad.abs().sum() > 0


def test_teacher_does_not_change_by_training_and_averaging():
    model = distiller()
    before = {name: value.clone() for name, value in model.teacher.state_dict().items()}
    average = ExponentialMovingAverage(model, momentum=0.1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(3):
        model.train()
        optimizer.zero_grad()
        model(images(), samples(), mode='loss')['loss_feat'].backward()
        optimizer.step()
        average.update_parameters(model)
        assert not model.teacher.training
    for name, value in model.teacher.state_dict().items():
        assert torch.equal(value, before[name]), name
    assert average.module.teacher is model.teacher
    assert not any('teacher' in key for key in average.state_dict())


def test_a_copy_has_forward_hooks_of_its_own():
    model = distiller()
    twin = copy.deepcopy(model)
    assert twin.teacher is model.teacher
    nn.init.zeros_(twin.student['backbone'].conv1.weight)
    twin.student['backbone'].bn1.weight.data.zero_()
    x = images()
    assert not torch.equal(twin.student(x)[0], model.student(x)[0])
    assert all(m.student.recorder._outputs == [None] for m in (model, twin))


def test_recorded_maps_are_those_of_the_block_and_are_released():
    model = distiller().eval()
    x = images()
    assert_close(model.student(x)[0], model.student['backbone'](x)[0])
    model(x, samples(), mode='loss')
    model.extract_feat(x)
    assert model.student.recorder._outputs == [None]


def test_an_output_that_is_overwritten_in_place_is_cloned_before():
    student = Student(dict(type='reprefine.InPlaceNet'), None, ['backbone.norm']).eval()
    (recorded,) = student(images())
    net = student['backbone']
    assert_close(recorded, net.norm(net.conv(images())))
    assert recorded.min() < 0


def test_neck_output_can_be_distilled():
    neck = dict(type='mmpretrain.GlobalAveragePooling')
    with pytest.raises(UserError, match='student layer neck has an output of shape .*, no feature map'):
        distiller(layers=['neck'], neck=neck)
    widths = tuple(18 * 2**stage for stage in range(4))
    student = Student(
        dict(type='mmpretrain.HRNet', arch='w18'), dict(type='mmpretrain.HRFuseScales', in_channels=widths), ['neck']
    )
    assert student.channels() == [2048]
    assert student.eval()(images(1, 64))[0].shape == (1, 2048, 2, 2)


def test_counting_channels_does_not_change_statistics_and_mode():
    model = distiller()
    assert model.student.training
    assert model.student['backbone'].bn1.num_batches_tracked == 0


def test_several_pairs_are_averaged_and_an_interval_takes_one():
    layers = ['backbone.layer3.1.relu', 'backbone.layer4.1.relu']
    teacher = dict(TEACHER, layers=[LAYER, ['mid_block', 16]])
    model = distiller(layers, teacher=teacher).eval()
    model.timestep_source = source = GivenTimesteps(torch.tensor([1, 2, 3, 4]))
    values = []
    for source.pair in (None, 0, 1):
        values.append(model(images(), samples(), mode='loss')['loss_feat'])
    assert_close(values[0], (values[1] + values[2]) / 2)


def test_class_conditional_teacher_gets_the_labels():
    source = dict(TEACHER['source'], num_class_embeds=5)
    model = distiller(teacher=dict(TEACHER, source=source, label_map=[4, 3, 2])).eval()
    model.timestep_source = GivenTimesteps(torch.full((4,), 100))
    first = model(images(), samples(), mode='loss')['loss_feat']
    swapped = [DataSample().set_gt_label(2 - index % 3) for index in range(4)]
    assert not torch.equal(first, model(images(), swapped, mode='loss')['loss_feat'])
    with pytest.raises(UserError, match='have no labels'):
        model(images(), [DataSample() for _ in range(4)], mode='loss')


@pytest.mark.parametrize(('label', 'message'), [(-1, 'have no labels'), (3, 'label 3 .* not in label_map.* 3 classes')])
def test_labels_without_a_class_of_the_teacher_are_named(label, message):
    source = dict(TEACHER['source'], num_class_embeds=5)
    model = distiller(teacher=dict(TEACHER, source=source, label_map=[4, 3, 2]))
    model.timestep_source = GivenTimesteps(torch.full((4,), 100))
    with pytest.raises(UserError, match=message):
        model(images(), [DataSample().set_gt_label(label) for _ in range(4)], mode='loss')


@pytest.mark.parametrize(('label', 'message'), [(-1, 'have no labels'), (3, 'label 3 .* not in label_map.* 3 classes')])
def test_class_conditional_teacher_checks_the_labels_of_every_batch(label, message):
    """-1 would index the last entry of the label map, another class."""
    source = dict(TEACHER['source'], num_class_embeds=5)
    model = distiller(teacher=dict(TEACHER, source=source, label_map=[4, 3, 2]))
    model.timestep_source = GivenTimesteps(torch.full((4,), 100))
    for _ in range(2):
        model(images(), samples(), mode='loss')
    with pytest.raises(UserError, match=message):
        model(images(), [*samples()[:3], DataSample().set_gt_label(label)], mode='loss')
    if label < 0:
        with pytest.raises(UserError, match=message):
            model(images(), [*samples()[:3], DataSample()], mode='loss')


def test_only_the_loss_selects_timesteps():
    model = distiller()
    model.timestep_source = None  # the loss would raise
    model.eval()
    assert model(images(), mode='tensor')[0].shape[0] == 4
    assert model.extract_feat(images())[0].shape[0] == 4
    with pytest.raises(UserError, match='predicts nothing: train without validation'):
        model(images(), samples(), mode='predict')


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (dict(layers=['backbone.layer9.1.relu']), "no layer 'backbone.layer9.1.relu'; similar ones: backbone.layer"),
        (dict(layers=['backbone.layer3', 'backbone.layer4']), '2 student_layers for 1 layers of the teacher'),
        (dict(layers=['backbone.unused'], backbone=dict(type='reprefine.InPlaceNet')), 'unused does not run'),
        (dict(timestep_source=dict(type='reprefine.FixedTimesteps', timestep=1000)), 'outside 0..999'),
    ],
)
def test_wrong_settings_are_named(options, message):
    with pytest.raises(UserError, match=message):
        distiller(**options)


def test_missing_source_and_mode_predict_are_refused_with_a_remedy():
    model = distiller(timestep_source=None)
    with pytest.raises(UserError, match='RLTimestepSelectorHook'):
        model(images(), samples(), mode='loss')
    with pytest.raises(UserError, match='train without validation'):
        model(images(), samples(), mode='predict')
    assert model(images())[0].shape == (4, 32, 1, 1)


def test_preprocessor_needs_mean_and_std():
    model = distiller(data_preprocessor=dict(type='BaseDataPreprocessor'))
    with pytest.raises(UserError, match='no mean and std'):
        model(images(), samples(), mode='loss')


@pytest.mark.parametrize(
    ('backbone', 'layer', 'width', 'size'),
    [
        (dict(type='mmpretrain.ResNet_CIFAR', depth=18), 'backbone.layer4.1.relu', 512, 4),
        (dict(type='reprefine.MobileNetV2CIFAR'), 'backbone.conv2.activate', 1280, 4),
        (dict(type='reprefine.WideResNetCIFAR', widen_factor=2), 'backbone.relu', 128, 8),
        (dict(type='reprefine.WideResNetCIFAR', widen_factor=2), 'backbone.layer3.3.relu', 128, 8),
        (dict(type='reprefine.WideResNetCIFAR', widen_factor=2), 'backbone.bn1', 128, 8),
    ],
)
def test_students_for_small_images(backbone, layer, width, size):
    init_default_scope('mmpretrain')
    student = Student(backbone, None, [layer]).eval()
    assert student(images(1))[0].shape == (1, width, size, size)


def test_loss_under_autocast_is_float32():
    model = distiller()
    with torch.autocast('cpu', dtype=torch.bfloat16):
        losses = model(images(), samples(), mode='loss')
    assert losses['loss_feat'].dtype == torch.float32
    assert losses['loss_feat'].isfinite()


def test_a_map_with_a_class_token_is_recorded():
    vit = dict(type='reprefine.TimmViT', model_name='vit_tiny_patch16_224', with_cls_token=True, frozen=False)
    model = distiller(('backbone',), vit | dict(model_args=dict(depth=1, embed_dim=48, num_heads=3)))
    (recorded,) = model.student(images())
    ((expected, cls_token),) = model.student['backbone'](images())
    assert cls_token.shape == (4, 48)
    assert_close(recorded, expected)


def test_checkpoint_initialises_a_backbone(tmp_path):
    model = distiller()
    torch.save(dict(state_dict=model.state_dict()), tmp_path / 'a.pth')
    start = dict(type='Pretrained', checkpoint=str(tmp_path / 'a.pth'), prefix='student.backbone.')
    backbone = ROOT_MODELS.build(dict(BACKBONE, init_cfg=start))
    backbone.init_weights()
    backbone.eval()  # returns nothing for this network
    assert_close(backbone(images())[0], model.student.eval()(images())[0])


def test_layer_wise_learning_rates_of_the_student_are_those_of_its_backbone():
    import mmpretrain.engine.optimizers  # noqa: F401, registers the constructor

    def rates(model):
        config = dict(
            optimizer=dict(type='SGD', lr=1.0, weight_decay=0.1),
            constructor='LearningRateDecayOptimWrapperConstructor',
            paramwise_cfg=dict(layer_decay_rate=0.5),
        )
        groups = build_optim_wrapper(model, config).optimizer.param_groups
        return {group['param_name'].removeprefix('student.'): group['lr'] for group in groups}

    backbone = BACKBONE | dict(depth=50)
    found = rates(distiller(('backbone.layer4.2.relu',), backbone))
    expected = rates(MODELS.build(dict(type='mmpretrain.ImageClassifier', backbone=backbone)))
    assert len(set(expected.values())) > 3
    assert {name: found.pop(name) for name in expected} == expected
    assert found == {'projectors.0.weight': 1.0, 'projectors.0.bias': 1.0}
    with pytest.raises(UserError, match='InPlaceNet, which has no get_layer_depth'):
        rates(distiller(('backbone.relu',), dict(type='reprefine.InPlaceNet')))
