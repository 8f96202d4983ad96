"""The frozen teacher: features, input, sources, errors, and that nothing changes or copies it."""

import copy

import numpy as np
import pytest
import torch
from diffusers import DDPMPipeline, DDPMScheduler
from mmengine.logging import MMLogger
from torch import nn
from torch.testing import assert_close

from reprefine.engine.errors import UserError
from reprefine.methods.repfusion import DiffusionTeacher
from reprefine.methods.repfusion.functional import add_noise
from reprefine.methods.repfusion.labels import imagenet_indices
from reprefine.methods.repfusion.teacher import sources
from reprefine.methods.repfusion.teacher.layer_recorder import LayerRecorder

from ..run import distiller
from ..tiny import LAYER, UNET, tiny_teacher

X = torch.randn(4, 3, 16, 16, generator=torch.Generator().manual_seed(0))
T = torch.tensor([0, 5, 500, 999])
MEAN, STD = torch.tensor([123.675, 116.28, 103.53]).view(3, 1, 1), torch.tensor([58.395, 57.12, 57.375]).view(3, 1, 1)
SEVERAL = [['mid_block', 16], ['down_blocks.0.resnets.0.conv1', 8], ['mid_block.resnets.0.nonlinearity', None]]


@pytest.mark.parametrize('layers', [[LAYER], SEVERAL, [['up_blocks.0', None], LAYER]])
def test_early_exit_gives_the_features_of_the_full_pass(layers):
    short, full = tiny_teacher(layers=layers), tiny_teacher(layers=layers, early_exit=False)
    for a, b in zip(short(X, T), full(X, T), strict=True):
        assert torch.equal(a, b)


def test_early_exit_runs_nothing_after_the_last_layer():
    for early_exit, expected in ((True, 0), (False, 1)):
        teacher, calls = tiny_teacher(early_exit=early_exit), []
        teacher.unet.conv_out.register_forward_hook(lambda *_, calls=calls: calls.append(1))
        teacher(X, T)
        assert len(calls) == expected


def test_features_are_those_of_the_network_itself():
    teacher = tiny_teacher(layers=[['mid_block', 16], LAYER], early_exit=False)
    kept = {}
    unet = teacher.unet
    unet.mid_block.register_forward_hook(lambda m, i, o: kept.update(mid=o))
    block = unet.mid_block.resnets[1]
    block.register_forward_pre_hook(lambda m, i: kept.update(skip=i[0]))
    mid, conv = teacher(X, T)
    assert torch.equal(mid, kept['mid'])
    # The convolution is read before the skip connection is added.
    assert_close((kept['skip'] + conv) / block.output_scale_factor, mid)


def test_features_depend_on_image_and_timestep_and_repeat():
    teacher = tiny_teacher()
    first = teacher(X, T)[0]
    assert torch.equal(first, teacher(X, T)[0])
    assert not torch.allclose(first[:1], teacher(X[:1], torch.tensor([900]))[0])
    assert not first.requires_grad


def test_an_output_that_a_later_layer_overwrites_is_cloned():
    net = nn.Sequential(nn.Conv2d(1, 2, 1), nn.ReLU(inplace=True), nn.Conv2d(2, 1, 1))
    recorder = LayerRecorder(net, ['0', '2'], early_exit=True)
    x = torch.randn(3, 1, 2, 2)
    with torch.no_grad():
        assert recorder.dry_run(net, lambda: net(x), [2, None]) == [2, 1]
        outputs = recorder.record(net, lambda: net(x))
        assert recorder._outputs == [None, None]  # released
        assert torch.equal(outputs[0], net[0](x))


def test_nothing_changes_the_teacher_and_a_copy_is_itself():
    model = distiller()
    teacher = model.teacher
    before = copy.deepcopy(teacher.unet.state_dict())
    model.train()
    teacher.train()
    assert not any(module.training for module in teacher.modules())
    assert not any(p.requires_grad for p in teacher.parameters())
    assert copy.deepcopy(model).teacher is teacher
    assert not [key for key in model.state_dict() if 'teacher' in key or 'unet' in key]
    assert not {id(p) for p in model.parameters()} & {id(p) for p in teacher.parameters()}
    teacher(X, T)
    for key, value in teacher.unet.state_dict().items():
        assert torch.equal(value, before[key])


def test_teacher_follows_its_model():
    model = distiller()
    model.double()
    assert {p.dtype for p in model.teacher.parameters()} == {torch.float64}
    assert model.teacher.alphas_cumprod.dtype == torch.float32
    model.to('meta')
    assert {p.device.type for p in model.teacher.parameters()} == {'meta'}
    assert model.teacher.alphas_cumprod.device.type == 'meta'


@pytest.mark.parametrize('cast', [nn.Module.half, nn.Module.bfloat16, lambda model: model.to(torch.bfloat16)])
def test_a_cast_does_not_change_the_noise_schedule(cast):
    """The first entry, 0.9999, is 1 in half precision, so that its noise would vanish."""
    model, noisy = distiller(), []
    model.teacher.noise_mode = 'forward'
    model.teacher._run = lambda images, *_: noisy.append(images)
    model.teacher.recorder.record = lambda network, run: [run()][1:]
    cast(model)
    assert torch.equal(model.teacher.alphas_cumprod, DDPMScheduler().alphas_cumprod)
    model.teacher(torch.zeros(4, 3, 16, 16, dtype=torch.bfloat16), torch.zeros_like(T))
    assert 0.008 < noisy[0].float().std() < 0.012


@pytest.mark.parametrize('change', [nn.Module.double, lambda model: model.to('meta')], ids=['cast', 'moved'])
@pytest.mark.parametrize('changed', ['copy', 'original'])
def test_casting_or_moving_a_model_does_not_change_the_teacher_of_its_copy(change, changed):
    original = distiller()
    twin = copy.deepcopy(original)
    first, second = (original, twin) if changed == 'original' else (twin, original)
    expected = second.teacher(X, T)
    change(first)
    assert first.teacher is not second.teacher
    assert {(p.dtype, p.device.type) for p in second.teacher.parameters()} == {(torch.float32, 'cpu')}
    assert {(p.dtype, p.device.type) for p in first.teacher.parameters()} != {(torch.float32, 'cpu')}
    assert torch.equal(second.teacher(X, T)[0], expected[0])
    if not first.teacher.alphas_cumprod.is_meta:
        assert_close(first.teacher(X, T)[0].float(), expected[0], rtol=1e-4, atol=1e-5)


def test_a_clone_of_the_teacher_records_its_own_layers():
    teacher = tiny_teacher(layers=SEVERAL)
    clone = copy.deepcopy(teacher).clone()
    assert clone is not teacher
    assert not {id(p) for p in teacher.parameters()} & {id(p) for p in clone.parameters()}
    for parameter in teacher.parameters():
        parameter.zero_()
    assert any(feats.abs().max() > 0 for feats in clone(X, T))
    assert all(feats is None for feats in teacher.recorder._outputs)


def test_noise_is_that_of_the_teachers_own_schedule_and_mode_none_adds_none():
    teacher, clean = tiny_teacher(noise_mode='forward', seed=5), tiny_teacher()
    inputs = []
    teacher.unet.register_forward_pre_hook(lambda m, args: inputs.append(args[0]))
    clean.unet.register_forward_pre_hook(lambda m, args: inputs.append(args[0]))
    clean(X, T)
    assert torch.equal(inputs[0], X)
    teacher(X, T)
    teacher.rng.count = 0
    noise = torch.randn(X.shape, generator=teacher.rng.next_generator())
    assert_close(inputs[1], add_noise(X, T, DDPMScheduler().alphas_cumprod, noise))
    teacher(X, T)
    assert not torch.equal(inputs[1], inputs[2])


def test_input_of_any_normalisation_size_and_number_of_channels_is_converted():
    pixels = torch.randint(0, 256, (2, 3, 16, 16)).float()
    teacher = tiny_teacher()
    assert_close(teacher.prepare((pixels - MEAN) / STD, MEAN, STD), pixels / 127.5 - 1, rtol=0, atol=1e-6)
    parity = tiny_teacher(teacher_norm='student')
    assert_close(parity.prepare((pixels - MEAN) / STD, MEAN, STD), (pixels - MEAN) / STD)
    large = torch.randn(2, 3, 40, 32)
    expected = nn.functional.interpolate(large, (16, 16), mode='bilinear', antialias=True)
    one = torch.ones(3, 1, 1)
    assert_close(teacher.prepare(large, 127.5 * one, 127.5 * one), expected, rtol=1e-5, atol=1e-5)
    grey = tiny_teacher(source={**UNET, 'in_channels': 1})
    assert_close(grey.prepare(X, 127.5 * one, 127.5 * one), X.mean(dim=1, keepdim=True), rtol=1e-5, atol=1e-5)


def test_resizing_is_warned_of_once(monkeypatch):
    warnings = []
    monkeypatch.setattr(MMLogger.get_current_instance(), 'warning', warnings.append)
    teacher = tiny_teacher()
    for _ in range(3):
        teacher.prepare(torch.zeros(1, 3, 20, 24), MEAN, STD)
    assert warnings == ['Images of 20x24 are resized to 16x16 for the teacher']


def test_saved_pipeline_and_bare_unet_give_the_same_features(tmp_path):
    teacher = tiny_teacher()
    scheduler = DDPMScheduler(num_train_timesteps=200, beta_schedule='squaredcos_cap_v2')
    DDPMPipeline(teacher.unet, scheduler).save_pretrained(tmp_path / 'pipeline')
    teacher.unet.save_pretrained(tmp_path / 'bare')
    t = torch.tensor([0, 5, 100, 199])
    pipeline, bare = (DiffusionTeacher(str(tmp_path / name), [LAYER]) for name in ('pipeline', 'bare'))
    expected = teacher(X, t)[0]
    assert torch.equal(pipeline(X, t)[0], expected)
    assert torch.equal(bare(X, t)[0], expected)
    assert (pipeline.num_timesteps, bare.num_timesteps) == (200, 1000)
    assert_close(pipeline.alphas_cumprod, scheduler.alphas_cumprod)
    assert pipeline.fingerprint() == bare.fingerprint() == teacher.fingerprint()


def test_fingerprint_depends_on_weights_layers_and_noise():
    teacher = tiny_teacher()
    fingerprints = {teacher.fingerprint(), tiny_teacher(layers=[['mid_block', 16]]).fingerprint()}
    fingerprints.add(tiny_teacher(noise_mode='forward').fingerprint())
    teacher.unet.conv_in.bias.data[0] += 1e-3
    assert len(fingerprints | {teacher.fingerprint()}) == 4


def test_fingerprint_depends_on_the_noise_schedule_only_with_noise():
    other = dict(kind='DDPMScheduler', beta_end=0.01)
    for mode, same in (('none', True), ('forward', False)):
        fingerprints = {tiny_teacher(noise_mode=mode, scheduler=config).fingerprint() for config in (None, other)}
        assert (len(fingerprints) == 1) is same


def test_hub_id_is_looked_up_locally_and_a_failed_download_names_the_folder_for_the_files(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv('HF_HUB_CACHE', str(tmp_path / 'cache'))

    def offline(*args, **kwargs):
        raise ConnectionError('no network')

    monkeypatch.setattr('huggingface_hub.snapshot_download', offline)
    with pytest.raises(UserError, match=r'put the files into data/teachers/someone/ddpm') as caught:
        tiny_teacher(source='someone/ddpm')
    assert '\n' not in str(caught.value)
    tiny_teacher().unet.save_pretrained(sources.LOCAL_TEACHERS / 'someone/ddpm')
    assert torch.equal(tiny_teacher(source='someone/ddpm')(X, T)[0], tiny_teacher()(X, T)[0])


def test_class_conditional_teacher_gets_the_mapped_class():
    source = {**UNET, 'num_class_embeds': 6}
    mapped, identity = tiny_teacher(source=source, label_map=[4, 2]), tiny_teacher(source=source, label_map='identity')
    ones, twos = torch.ones(4, dtype=torch.long), torch.full((4,), 2)
    assert torch.equal(mapped(X, T, ones)[0], identity(X, T, twos)[0])
    assert not torch.equal(identity(X, T, ones)[0], identity(X, T, twos)[0])
    with pytest.raises(UserError, match='the data have no labels'):
        mapped(X, T)
    with pytest.raises(UserError, match='conditioned on 6 classes: give label_map'):
        tiny_teacher(source=source)
    with pytest.raises(UserError, match=r'outside 0..5'):
        tiny_teacher(source=source, label_map=[6])


def test_wordnet_ids_become_classes_of_imagenet(tmp_path):
    (tmp_path / 'wnids.txt').write_text('n02124075\nn01443537\n')  # in the order of the file, not sorted
    assert imagenet_indices(tmp_path / 'wnids.txt') == [1, 285]  # goldfish, Egyptian cat
    with pytest.raises(UserError, match='no file absent.txt: give a file of WordNet ids'):
        imagenet_indices('absent.txt')


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (
            dict(layers=[['mid_block.resnet.1.conv2', 16]]),
            r"no layer 'mid_block.resnet.1.conv2'; similar ones: mid_block",
        ),
        (dict(layers=[['mid_block', 32]]), 'mid_block has 16 channels, not 32'),
        (dict(layers=[['time_embedding', None]]), 'time_embedding has an output of shape .*, no feature map'),
        (dict(layers=[]), 'layers is empty'),
        (dict(noise_mode='backward'), "noise_mode='backward': use none or forward"),
        (dict(teacher_norm='imagenet'), "teacher_norm='imagenet': use range or student"),
        (dict(source='./absent'), 'is no folder'),
        (dict(source=dict(kind='UNet3D')), "unknown UNet 'UNet3D'"),
        (dict(source={**UNET, 'widths': 3}), 'UNet2DModel cannot be built'),
        (dict(scheduler=dict(kind='NoSuch')), "no scheduler 'NoSuch'"),
        (dict(dtype='bf16'), "dtype='bf16' is no data type of torch"),
        (dict(layers=[['mid_block', 16], ['conv_norm_out', 3]]), 'conv_norm_out has 8 channels, not 3 as layers says'),
    ],
)
def test_wrong_settings_are_named(options, message):
    with pytest.raises(UserError, match=message):
        tiny_teacher(**options)


@pytest.mark.parametrize(('options', 'tolerance'), [(dict(channels_last=True), 1e-5), (dict(dtype='bfloat16'), 0.05)])
def test_faster_options_give_the_same_features(options, tolerance):
    fast, expected = tiny_teacher(**options)(X, T)[0], tiny_teacher()(X, T)[0]
    assert fast.dtype == torch.float32
    assert ((fast - expected).norm() / expected.norm()).item() < tolerance


def test_features_under_autocast_are_float32_and_near():
    teacher = tiny_teacher()
    with torch.autocast('cpu', torch.bfloat16):
        fast = teacher(X, T)[0]
    assert fast.dtype == torch.float32
    np.testing.assert_allclose(fast.numpy(), teacher(X, T)[0].numpy(), atol=0.1)
