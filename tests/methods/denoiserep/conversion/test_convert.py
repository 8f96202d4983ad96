"""Conversion and reparameterisation of models: outputs, structure, copies, export (checks 5, 6, 7, 12, 15)."""

import copy
import io
import pickle

import pytest
import timm
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from reprefine.engine.errors import UserError
from reprefine.methods.denoiserep import (
    ConversionError,
    DenoiseConv2d,
    DenoiseLinear,
    convert,
    denoise_layers,
    is_converted,
    is_reparameterized,
    noise_loss,
    reparameterize,
    report,
    set_phase,
)
from reprefine.methods.denoiserep.conversion.converted import denoise_state

from ..toys import TinyConvNet, TinyViT, assert_same, build, converted, images, snapshot

MODELS = {'vit': (TinyViT, 'all'), 'conv': (TinyConvNet, 'conv')}
OPTIONS = [{}, dict(time_embed=True, embed_width=16), dict(step='ddim', to=0), dict(timestep=300, side='output')]


@pytest.fixture(params=MODELS)
def case(request):
    factory, include = MODELS[request.param]
    return factory, include


def flops(model):
    with FlopCounterMode(display=False) as counter:
        model(images(dtype=next(model.parameters()).dtype))
    return counter.get_total_flops()


@pytest.mark.parametrize('mode', ['train', 'eval'])
def test_conversion_leaves_outputs_and_gradients_bitwise(case, mode):
    """In the predictor phase, or in evaluation with denoising off."""
    factory, include = case
    reference, model = build(factory), build(factory)
    convert(model, include)
    for m in (reference, model):
        m.train(mode == 'train')
        for norm in (x for x in m.modules() if isinstance(x, nn.modules.batchnorm._NormBase)):
            norm.eval()
    denoise_state(model).denoise_eval = False
    output, expected = model(images()), reference(images())
    assert torch.equal(output, expected)
    output.square().sum().backward()
    expected.square().sum().backward()
    assert all(torch.equal(model.get_parameter(name).grad, p.grad) for name, p in reference.named_parameters())
    assert {k: v.dtype for k, v in reference.state_dict().items()}.items() <= {
        k: v.dtype for k, v in model.state_dict().items()
    }.items()


def test_conversion_keeps_the_parameter_objects_and_flags(case):
    factory, include = case
    model = build(factory)
    next(model.parameters()).requires_grad_(False)
    before = {name: (id(p), p.requires_grad) for name, p in model.named_parameters()}
    convert(model.eval(), include)
    after = {name: (id(p), p.requires_grad) for name, p in model.named_parameters() if '.denoiser.' not in name}
    assert after == before
    assert not any(m.training for m in model.modules())


@pytest.mark.parametrize('options', OPTIONS)
@pytest.mark.parametrize('dtype', [torch.float64, torch.float32])
def test_the_reparameterised_model_predicts_the_same_and_has_the_structure_of_the_baseline(case, options, dtype):
    factory, include = case
    model = converted(factory, include, dtype=dtype, **options).eval()
    x, stock = images(8, 5, dtype=dtype), build(factory, seed=9).to(dtype).eval()
    deployed = reparameterize(model)
    expected = model(x)
    tolerance = 1e-12 if dtype == torch.float64 else 1e-5
    torch.testing.assert_close(deployed(x), expected, rtol=tolerance, atol=tolerance)
    assert list(deployed.state_dict()) == list(stock.state_dict())
    assert [type(m) for m in deployed.modules()] == [type(m) for m in stock.modules()]
    assert repr(deployed) == repr(stock)
    assert flops(deployed) == flops(stock)
    stock.load_state_dict(deployed.state_dict(), strict=True)
    assert torch.equal(stock(x), deployed(x))
    denoise_state(model).denoise_eval = False
    assert (model(x) - expected).abs().max() > 1e-4


def test_bias_policy_add_gives_the_reparameterised_layer_a_bias():
    model = converted(TinyConvNet, 'conv', bias_policy='add').eval()
    deployed = reparameterize(model)
    assert set(deployed.state_dict()) - set(TinyConvNet().state_dict()) == {'stem.0.bias'}
    torch.testing.assert_close(deployed(images().double()), model(images().double()), rtol=0, atol=1e-12)


def test_reparameterisation_is_pure(case):
    factory, include = case
    model = converted(factory, include, dtype=torch.float32)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    before, modules = snapshot(model), dict(model.named_modules())
    first, second = reparameterize(model), reparameterize(model)
    assert_same(snapshot(model), before)
    assert dict(model.named_modules()) == modules
    assert_same(snapshot(first), snapshot(second))
    assert {id(p) for p in optimizer.param_groups[0]['params']} == {id(p) for p in model.parameters()}
    assert not {p.data_ptr() for p in first.parameters()} & {p.data_ptr() for p in model.parameters()}
    assert (is_converted(model), is_reparameterized(model)) == (True, False)
    model.train()
    model(images())
    assert noise_loss(model) > 1  # still watched


def test_reparameterisation_in_place_leaves_no_state(case):
    factory, include = case
    model = converted(factory, include)
    expected = reparameterize(model)
    assert reparameterize(model, inplace=True) is model
    assert_same(snapshot(model), snapshot(expected))
    assert (is_converted(model), is_reparameterized(model)) == (False, True)
    assert not model._forward_pre_hooks
    assert not model._forward_hooks
    for action in (reparameterize, noise_loss, lambda m: set_phase(m, 'denoise'), lambda m: convert(m, include)):
        with pytest.raises(ConversionError, match='reparameterised'):
            action(model)
    assert_same(snapshot(model), snapshot(expected))


def test_an_unconverted_model_cannot_be_reparameterised():
    with pytest.raises(ConversionError, match='no denoising layer'):
        reparameterize(TinyViT())


def test_converting_twice_changes_nothing():
    model = TinyViT()
    rows, before, modules = convert(model, 'mlp'), snapshot(model), dict(model.named_modules())
    assert convert(model, 'all') == rows == report(model)
    assert_same(snapshot(model), before)
    assert dict(model.named_modules()) == modules
    assert len(model._forward_pre_hooks) == 1


def test_narrow_side_is_the_cheaper_one_and_is_exact():
    model = build(TinyViT).double().eval()
    rows = {row.name: (row.side, row.width) for row in convert(model, 'mlp', side='narrow')}
    sides = {'fc1': 'input', 'fc2': 'output'}
    assert rows == {f'blocks.{i}.mlp.{fc}': (side, 8) for i in (0, 1) for fc, side in sides.items()}
    batch = images(3).double()
    torch.testing.assert_close(reparameterize(model)(batch), model(batch), rtol=1e-12, atol=1e-12)
    rows = {row.name: (row.side, row.width) for row in convert(TinyConvNet(), 'conv', side='narrow')}
    assert rows['stem.0'] == ('input', 3)
    assert rows['depthwise'] == ('output', 8)  # the default side where both are equal


def test_report_tells_type_timestep_width_and_side():
    rows = {row.name: (row.type, row.timestep, row.width, row.side) for row in convert(TinyConvNet(), 'conv')}
    assert rows == {
        'stem.0': ('Conv2d', 4, 8, 'output'),
        'depthwise': ('Conv2d', 3, 8, 'output'),
        'grouped': ('Conv2d', 2, 12, 'output'),
        'head': ('Conv2d', 1, 5, 'output'),
    }


def test_mmcv_wrappers_come_back_as_themselves():
    from mmcv.cnn.bricks import Conv2d, Linear

    model = nn.Sequential(Conv2d(3, 4, 3, padding=1), nn.Flatten(), Linear(256, 3)).double().eval()
    convert(model, 'all')
    assert [type(m) for m in denoise_layers(model).values()] == [DenoiseConv2d, DenoiseLinear]
    deployed = reparameterize(model)
    assert [type(m) for m in deployed] == [Conv2d, nn.Flatten, Linear]
    torch.testing.assert_close(deployed(images().double()), model(images().double()), rtol=0, atol=1e-12)


@pytest.mark.parametrize('copier', [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))])
@pytest.mark.parametrize('phase', ['denoise', 'backbone'])
def test_copies_are_whole_and_independent(case, copier, phase):
    factory, include = case
    model = converted(factory, include)
    set_phase(model, phase)
    denoise_state(model).generator = torch.Generator()
    model(images().double())
    copied = copier(model)
    assert_same(snapshot(copied), snapshot(model))
    states = {id(layer.state) for layer in denoise_layers(copied).values()}
    assert len(states) == 1
    assert states != {id(denoise_state(model))}
    assert torch.equal(copied.eval()(images().double()), model.eval()(images().double()))
    assert torch.equal(reparameterize(copied)(images().double()), reparameterize(model)(images().double()))
    set_phase(copied, 'eval_only')
    assert denoise_state(model).phase == phase
    set_phase(copied, 'joint')
    assert all(p.requires_grad for p in copied.parameters())
    noise_loss(model)
    copied.train()(images().double())
    assert noise_loss(copied) > 1  # the copy watches its own forward
    assert noise_loss(model) == 0


@pytest.mark.parametrize('phase', ['denoise', 'backbone', 'joint'])
def test_state_dict_round_trip_in_the_middle_of_a_phase(case, phase):
    """Timesteps travel with the state: the second model counted its layers differently."""
    factory, include = case
    model = converted(factory, include, time_embed=True, embed_width=16)
    set_phase(model, phase)
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], 0.1)
    (model(images().double()).square().sum() + noise_loss(model)).backward()
    optimizer.step()
    file = io.BytesIO()
    torch.save(model.state_dict(), file)
    file.seek(0)
    other = converted(factory, include, seed=8, time_embed=True, embed_width=16, timestep=50)
    assert {row.timestep for row in report(other)} == {50}
    other.load_state_dict(torch.load(file, weights_only=True))
    assert report(other) == report(model)
    for m in (model, other):
        m.eval()
        torch.testing.assert_close(reparameterize(m)(images().double()), m(images().double()), rtol=0, atol=1e-12)
    assert torch.equal(other(images().double()), model(images().double()))


def test_baseline_state_dict_lacks_predictor_keys_only(case):
    factory, include = case
    model = converted(factory, include, dtype=torch.float32)
    missing, unexpected = model.load_state_dict(build(factory, seed=4).state_dict(), strict=False)
    assert not unexpected
    assert missing
    assert all('.denoiser.' in key for key in missing)
    assert {key.partition('.denoiser.')[0] for key in missing} == set(denoise_layers(model))


@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16])
@pytest.mark.parametrize('options', OPTIONS[:2])
def test_casting_the_whole_model(case, dtype, options):
    """Reparameterisation before and after a cast are equal to the precision of the dtype."""
    factory, include = case
    model = converted(factory, include, dtype=torch.float32, **options)
    expected = reparameterize(model).eval()(images())
    low = copy.deepcopy(model).to(dtype).eval()
    assert int(next(iter(denoise_layers(low).values())).denoiser.timestep) == len(report(model))
    trained, deployed = low(images().to(dtype)), reparameterize(low)(images().to(dtype))
    assert trained.dtype == deployed.dtype == dtype
    torch.testing.assert_close(deployed, trained, rtol=2**-6, atol=2**-5)
    torch.testing.assert_close(deployed.float(), expected, rtol=2**-4, atol=2**-4)
    low.train()(images().to(dtype))
    loss = noise_loss(low)
    loss.backward()
    assert loss.isfinite()
    assert all(p.grad.isfinite().all() for layer in denoise_layers(low).values() for p in layer.denoiser.parameters())


@pytest.mark.filterwarnings('ignore::DeprecationWarning')
def test_the_reparameterised_model_exports_to_onnx(case, tmp_path):
    onnxruntime = pytest.importorskip('onnxruntime')
    factory, include = case
    model = converted(factory, include, dtype=torch.float32, exclude='grouped').eval()
    deployed, path = reparameterize(model), tmp_path / 'deployed.onnx'
    if factory is TinyConvNet:
        deployed.grouped = nn.Conv2d(8, 12, 3, groups=2)  # ONNX has no circular padding
        model.grouped = deployed.grouped
    torch.onnx.export(deployed, (images(),), path, input_names=['x'], dynamo=False)
    (output,) = onnxruntime.InferenceSession(path, providers=['CPUExecutionProvider']).run(
        None, {'x': images().numpy()}
    )
    torch.testing.assert_close(torch.from_numpy(output), model(images()), rtol=1e-5, atol=1e-5)


@pytest.mark.filterwarnings('ignore')
def test_the_reparameterised_model_compiles():
    model = converted(TinyViT, 'all', dtype=torch.float32).eval()
    compiled = torch.compile(reparameterize(model), backend='aot_eager', fullgraph=True)
    torch.testing.assert_close(compiled(images()), model(images()), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (dict(steps=500), 'steps=1000, no DDIM target .* has steps=500, no DDIM target'),
        (dict(step='ddim', to=0), 'no DDIM target .* has steps=1000, to=0'),
        (dict(step='none'), "no DDIM target .* has steps=1000, step='none'"),
        (dict(side='output'), "side='input', but the model has .* side='output'"),
    ],
)
def test_predictors_of_another_schedule_or_side_are_refused(options, message):
    """A square layer, whose predictor has the same shape on both sides."""
    trained, other = nn.Sequential(nn.Linear(4, 4)), nn.Sequential(nn.Linear(4, 4))
    convert(trained, 'linear', timestep=7)
    convert(other, 'linear', timestep=7, **options)
    with pytest.raises(UserError, match=rf'0\.denoiser was trained with .*{message}'):
        other.load_state_dict(trained.state_dict())


def test_predictors_of_a_file_that_does_not_tell_load_with_a_warning():
    trained, other = nn.Sequential(nn.Linear(4, 4)), nn.Sequential(nn.Linear(4, 4))
    for model in (trained, other):
        convert(model, 'linear', timestep=7)
    old = {key: value for key, value in trained.state_dict().items() if not key.endswith(('schedule', 'side'))}
    with pytest.warns(UserWarning, match='does not store the schedule and the side'):
        other.load_state_dict(old)
    assert torch.equal(other.state_dict()['0.denoiser.weight'], old['0.denoiser.weight'])


@pytest.mark.parametrize(('phase', 'backend'), [('denoise', 'eager'), ('joint', 'aot_eager')])
def test_training_compiles(phase, backend):
    """An MLP of timm; also with the noise of the bias, another draw."""
    losses = []
    for compile_it in (False, True):
        torch.manual_seed(0)
        model = nn.Sequential(timm.layers.Mlp(8, 16))
        convert(model.train(), r'fc', bias_noise=True)
        set_phase(model, phase)
        run = torch.compile(model, backend=backend) if compile_it else model
        torch.manual_seed(1)
        output = run(torch.ones(2, 8))
        loss = noise_loss(model) + (output.sum() if phase != 'denoise' else 0)
        loss.backward()
        losses.append([loss.detach(), *(p.grad for p in model.parameters() if p.grad is not None)])
    assert len(losses[0]) == len(losses[1]) > 1
    for value, other in zip(*losses, strict=True):
        torch.testing.assert_close(value, other, rtol=1e-4, atol=1e-4)
