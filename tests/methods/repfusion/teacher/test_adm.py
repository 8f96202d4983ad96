"""The converted ADM against a reference implementation, and the detection of a wrong attention order."""

import copy

import pytest
import torch
from mmengine.logging import MMLogger

from reprefine.engine.errors import UserError
from reprefine.methods.repfusion import DiffusionTeacher
from reprefine.methods.repfusion.teacher import adm
from reprefine.methods.repfusion.teacher.adm import PUBLISHED_CONFIGS, build_scheduler, build_unet, load_adm
from reprefine.methods.repfusion.teacher.adm_state_dict import convert_state_dict, split_qkv

from .adm_reference import ADM, train

SHAPE = dict(image_size=16, channels=32, channel_mult=(1, 2), num_res_blocks=1, attention_at=(8,), head_channels=16)


def reference(order, classes=None, seed=0):
    torch.manual_seed(seed)
    model = ADM(16, 32, (1, 2), 1, (8,), 16, classes, order).eval()
    for p in model.parameters():  # some are initialised to zero
        p.data += 0.1 * torch.randn(p.shape)
    return model


@pytest.mark.parametrize('order', ['legacy', 'new'])
@pytest.mark.parametrize('classes', [None, 5])
def test_converted_unet_computes_the_same_as_the_reference(order, classes):
    model = reference(order, classes)
    x, t = torch.randn(3, 3, 16, 16), torch.tensor([0, 7, 999])
    labels = torch.tensor([0, 4, 2]) if classes else None
    config = adm._get_config(None, order, {**SHAPE, 'num_classes': classes})
    for other in adm.ATTENTION_ORDERS:
        unet = adm.build_unet(config).eval()
        unet.load_state_dict(convert_state_dict(model.state_dict(), config, other, unet.state_dict(), 'adm.pt'))
        with torch.no_grad():
            output, expected = unet(x, t, labels, return_dict=False)[0], model(x, t, labels)
        difference = ((output - expected).norm() / expected.norm()).item()
        assert difference < 1e-5 if other == order else difference > 1e-3


def test_bottleneck_feature_is_that_of_the_hooked_convolution():
    model = reference('new')
    kept = {}
    model.middle_block[2].out_layers[3].register_forward_hook(lambda m, i, o: kept.update(feat=o.detach()))
    teacher = _teacher_of(model, 'new')
    x, t = torch.randn(2, 3, 16, 16), torch.tensor([3, 300])
    model(x, t)
    torch.testing.assert_close(teacher(x, t)[0], kept['feat'], rtol=1e-4, atol=1e-5)


def _teacher_of(model, order):
    teacher = DiffusionTeacher(dict(kind='ADM', attention_order=order, **SHAPE), [['mid_block.resnets.1.conv2', 64]])
    config = adm._get_config(None, order, SHAPE)
    teacher.unet.load_state_dict(convert_state_dict(model.state_dict(), config, order, teacher.unet.state_dict(), ''))
    return teacher


@pytest.fixture(scope='module')
def trained_state():
    """A trained model, with its attention in the new order."""
    torch.manual_seed(0)
    model = ADM(16, 32, (1, 2), 1, (8,), 16, None, 'new')
    train(model, build_scheduler('linear').alphas_cumprod, 16, steps=80)
    return model.state_dict()


def to_legacy(state, head=16):
    """The same model with its attention in the legacy order: q, k and v head by head."""
    return {
        key: value.view(3, -1, head, *value.shape[1:]).transpose(0, 1).reshape(value.shape) if '.qkv.' in key else value
        for key, value in state.items()
    }


@pytest.mark.parametrize('order', ['legacy', 'new'])
def test_wrong_order_of_a_trained_model_is_detected(tmp_path, trained_state, order):
    path = str(tmp_path / 'adm.pt')
    torch.save(to_legacy(trained_state) if order == 'legacy' else trained_state, path)
    load_adm(path, attention_order=order, **SHAPE)
    wrong = dict(legacy='new', new='legacy')[order]
    with pytest.raises(
        UserError, match=f"attention_order is '{wrong}', but the attention of .* has the order '{order}'"
    ):
        load_adm(path, attention_order=wrong, **SHAPE)


class Counted:
    """A function that counts its calls, and those on the meta device."""

    def __init__(self, function):
        self.function, self.calls, self.on_meta = function, 0, 0

    def __call__(self, *args):
        self.calls += 1
        self.on_meta += torch.empty(0).is_meta
        return self.function(*args)


@pytest.mark.parametrize(('published', 'main', 'tries'), [(True, True, 0), (False, True, 2), (False, False, 0)])
def test_one_network_is_built_and_only_an_unpublished_order_is_verified(
    tmp_path, trained_state, published, main, tries, monkeypatch
):
    """By one process. The weights are those of the file, in the order of the config."""
    torch.save({key: value.double() for key, value in trained_state.items()}, tmp_path / 'adm.pt')
    build, error = Counted(build_unet), Counted(adm.denoising_error)
    monkeypatch.setattr(adm, 'build_unet', build)
    monkeypatch.setattr(adm, 'denoising_error', error)
    monkeypatch.setattr(adm, 'is_main_process', lambda: main)
    config = adm._get_config(None, 'new', SHAPE)
    if published:
        monkeypatch.setitem(adm.PUBLISHED_CONFIGS, 'tiny', config)
    given = dict(recipe='tiny') if published else dict(attention_order='new', **SHAPE)
    unet, _ = load_adm(str(tmp_path / 'adm.pt'), **given)
    assert (build.calls, build.on_meta, error.calls) == (1, 1, tries)
    expected = build_unet(config)
    expected.load_state_dict(convert_state_dict(trained_state, config, 'new', expected.state_dict(), ''))
    for name, value in expected.state_dict().items():
        assert value.dtype == unet.state_dict()[name].dtype == torch.float32
        assert torch.equal(value, unet.state_dict()[name]), name
    assert not any(tensor.is_meta for tensor in [*unet.parameters(), *unet.buffers()])


def test_order_of_an_untrained_model_cannot_be_verified(tmp_path, monkeypatch):
    warnings = []
    monkeypatch.setattr(MMLogger.get_current_instance(), 'warning', warnings.append)
    torch.manual_seed(0)
    torch.save(ADM(16, 32, (1, 2), 1, (8,), 16, None, 'new').state_dict(), tmp_path / 'adm.pt')
    load_adm(str(tmp_path / 'adm.pt'), attention_order='new', **SHAPE)
    assert len(warnings) == 1
    assert 'cannot be verified' in warnings[0]


def test_orders_split_the_projections_differently():
    qkv = torch.arange(12)  # two heads of two channels
    assert [part.tolist() for part in split_qkv(qkv, 2, 'new')] == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10, 11]]
    assert [part.tolist() for part in split_qkv(qkv, 2, 'legacy')] == [[0, 1, 6, 7], [2, 3, 8, 9], [4, 5, 10, 11]]


def test_published_models_have_their_order_and_another_is_refused():
    with pytest.raises(UserError, match="attention_order is 'legacy', but this model was trained with 'new'"):
        load_adm(recipe='imagenet64', attention_order='legacy')
    config = PUBLISHED_CONFIGS['imagenet64']._replace(attention_order=None)._asdict()
    with pytest.raises(UserError, match="attention_order is 'legacy', but this model was trained with 'new'"):
        load_adm(attention_order='legacy', **{k: v for k, v in config.items() if k != 'attention_order'})
    with pytest.raises(UserError, match="attention_order is 'new', but this model was trained with 'legacy'"):
        load_adm(recipe='imagenet256_uncond', attention_order='new')
    with pytest.raises(UserError, match="attention_order is None: use 'new' if"):
        load_adm(**SHAPE)
    for name, width in (('imagenet64', 768), ('imagenet256_uncond', 1024)):
        with torch.device('meta'):
            weights = build_unet(PUBLISHED_CONFIGS[name]).state_dict()
        assert weights['mid_block.resnets.1.conv2.weight'].shape == (width, width, 3, 3)


def test_schedules_have_the_published_noise():
    cosine, linear = (build_scheduler(name).alphas_cumprod for name in ('cosine', 'linear'))
    for t, value in ((0, 0.99996), (50, 0.9917), (500, 0.4923)):
        assert cosine[t].item() == pytest.approx(value, abs=6e-5)
    assert cosine[999].item() == pytest.approx(2.4e-9, rel=0.03)
    assert linear[999].item() == pytest.approx(4.04e-5, rel=2e-3)


def test_file_of_another_shape_is_refused(tmp_path):
    model = reference('new')
    path = str(tmp_path / 'adm.pt')
    torch.save(model.state_dict(), path)
    with pytest.raises(UserError, match='does not have the given shape'):
        load_adm(path, attention_order='new', **{**SHAPE, 'channel_mult': (1, 2, 2)})
    torch.save({**copy.deepcopy(model.state_dict()), 'extra': torch.zeros(1)}, path)
    with pytest.raises(UserError, match='1 are unused'):
        load_adm(path, attention_order='new', **SHAPE)
