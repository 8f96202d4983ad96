"""Checkpoints of the released code, written here by a layer of its form, in our models."""

import pytest
import torch
from torch import nn

from reprefine.engine.errors import UserError
from reprefine.methods.denoiserep import DenoiseRep, denoise_layers, import_published

from .published import STEPS, WIDTH, PublishedLinear, save
from .toys import TinyViT, ToyClassifier, build, constants, images, refined


def published_model(include: str = 'mlp') -> nn.Module:
    model = build(ToyClassifier)
    for block in model.backbone.blocks:
        if include == 'mlp':
            block.mlp.fc1, block.mlp.fc2 = PublishedLinear(block.mlp.fc1), PublishedLinear(block.mlp.fc2)
        else:
            block.attn.qkv = PublishedLinear(block.attn.qkv)
    return model.eval()


def denoised(seed: int = 5, **options) -> DenoiseRep:
    options = dict(include='mlp', embed_width=WIDTH) | options
    return refined(seed=seed, **options).eval()


def load_imported(model: nn.Module, target) -> nn.Module:
    model.load_state_dict(torch.load(target, weights_only=True)['state_dict'], strict=True)
    return model


@pytest.mark.parametrize('time_embed', [False, True])
@pytest.mark.parametrize('prefix', ['', 'module.'])
def test_imported_layers_compute_the_published_step(tmp_path, time_embed, prefix):
    """x_hat = c_x x - c_e (D (x + tau) + d), with the time network kept or added to the bias."""
    source = published_model()
    file = save({prefix + key: value for key, value in source.state_dict().items()}, tmp_path)
    assert import_published(denoised(time_embed=time_embed), file, tmp_path / 'out.pth') == 4
    model = load_imported(denoised(time_embed=time_embed), tmp_path / 'out.pth')
    for name, layer in denoise_layers(model).items():
        published, t = source.get_submodule(name), int(layer.denoiser.timestep)
        assert t == (4 if name.endswith('fc1') else 3)  # the released counter restarts in every block
        x, c = torch.randn(5, layer.in_features), constants(t)
        expected = nn.functional.linear(
            c.c_x * x - c.c_e * published.predict_noise(x, t), published.weight, published.bias
        )
        torch.testing.assert_close(layer(x), expected, rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(layer.reparameterize()(x), expected, rtol=1e-5, atol=1e-6)


def test_a_baseline_gets_the_stored_weights(tmp_path):
    """That is how the released code evaluates, before and after its merge."""
    source, stock = published_model(), build(ToyClassifier, 5).eval()
    assert import_published(stock, save(source.state_dict(), tmp_path), tmp_path / 'out.pth') == 4
    load_imported(stock, tmp_path / 'out.pth')
    assert torch.equal(stock(images()), source(images()))


def test_renames_map_other_names(tmp_path):
    """Names of layers, names of parts, and a weight that is dropped."""
    state = published_model().state_dict()
    file = save(
        {key.replace('.mlp.', '.ff.').replace('.dm.', '.eps.'): value for key, value in state.items()}
        | {'aux': torch.ones(2)},
        tmp_path,
    )
    renames = [(r'\.ff\.(fc\d)\.eps', r'.ff.\1.dm'), (r'(blocks\.\d)\.ff', r'\1.mlp'), (r'^aux$', '')]
    import_published(denoised(), file, tmp_path / 'renamed.pth', renames)
    import_published(denoised(), save(state, tmp_path, 'plain.pth'), tmp_path / 'direct.pth')
    first, second = (load_imported(denoised(), tmp_path / f'{name}.pth').state_dict() for name in ('renamed', 'direct'))
    assert first.keys() == second.keys()
    assert all(torch.equal(first[key], second[key]) for key in first)


FC1 = 'backbone.blocks.0.mlp.fc1'


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        (lambda s: s.update({'odd.weight': torch.ones(1)}), r'its weights .*unexpected: odd.weight'),
        (lambda s: s.pop('backbone.head.bias'), 'its weights do not fit .*missing: backbone.head.bias'),
        (lambda s: s.update({'backbone.head.bias': torch.ones(3)}), 'size mismatch: backbone.head.bias'),
        (lambda s: [s.pop(k) for k in list(s) if k.startswith(f'{FC1}.') and k.count('.') > 5],
         f'its noise predictors do not fit .*missing: {FC1}'),
        (lambda s: [s.pop(f'{FC1}.dm.{k}') for k in ('weight', 'bias')], f'{FC1} has no predictor'),
        (lambda s: s.update({f'{FC1}.extra': torch.ones(7)}), f'{FC1} has parts that are not vectors .*: extra'),
        (lambda s: s.update({f'{FC1}.betas': torch.full((STEPS,), 0.01)}), 'betas is not the noise schedule'),
        (lambda s: s.update({f'{FC1}.bias': torch.ones(0)}), f'merged already: {FC1} has a bias'),
        (lambda s: s.update({f'module.{FC1}.bias': torch.ones(16)}), 'two of its weights are called'),
        (lambda s: [s.pop(k) for k in list(s) if '.mlp.' in k and k.split('.')[5] not in ('weight', 'bias')],
         'has no noise predictor'),
    ],
)  # fmt: skip
def test_a_mismatch_is_named_and_nothing_is_written(tmp_path, change, message):
    state = dict(published_model().state_dict())
    change(state)
    with pytest.raises(UserError, match=message):
        import_published(denoised(), save(state, tmp_path), tmp_path / 'out.pth')
    assert not (tmp_path / 'out.pth').exists()


def test_a_layer_without_bias_needs_the_policy_of_the_released_code_and_reveals_a_merge(tmp_path):
    source = published_model('qkv')
    file = save(source.state_dict(), tmp_path)
    with pytest.raises(UserError, match="set model.denoise.bias_policy='add'"):
        import_published(denoised(include='qkv'), file, tmp_path / 'out.pth')
    import_published(denoised(include='qkv', bias_policy='add'), file, tmp_path / 'out.pth')
    merged = source.state_dict() | {'backbone.blocks.1.attn.qkv.bias': torch.ones(24)}
    with pytest.raises(
        UserError, match=r'merged already: backbone.blocks.1.attn.qkv has a bias that the base layer lacks'
    ):
        import_published(denoised(include='qkv', bias_policy='add'), save(merged, tmp_path), tmp_path / 'again.pth')


def test_a_deployed_checkpoint_of_this_package_and_an_existing_target_are_refused(tmp_path):
    file = save(TinyViT().state_dict(), tmp_path, meta=dict(denoiserep_fused=True))
    with pytest.raises(UserError, match='deployed form of this package'):
        import_published(denoised(), file, tmp_path / 'out.pth')
    with pytest.raises(UserError, match='exists: give another name'):
        import_published(denoised(), file, file)
