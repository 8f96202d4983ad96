"""Training features of mmengine and the OpenMMLab libraries: accumulation, EMA, checkpointing, mixed precision."""

import pytest
import torch
from mmengine.optim import OptimWrapper
from torch import Tensor, nn

from reprefine.engine.optim import CPUAmpOptimWrapper
from reprefine.methods.denoiserep import DenoiseRep, convert, denoise_layers, noise_loss, set_phase
from reprefine.methods.denoiserep.conversion.converted import denoise_state
from reprefine.registry import MODELS

from .toys import images, refined, snapshot

LABELS = torch.arange(8) % 5
PHASES = ('denoise', 'backbone', 'joint')


def wrapped(phase: str, dtype: torch.dtype = torch.float64) -> DenoiseRep:
    model = refined(include='all', loss_weight=0.1).to(dtype).train()
    model.backbone.neck.eval()  # its batch statistics would tie the micro-batches together
    set_phase(model, phase)
    return model


def losses(model: DenoiseRep, rows: slice, seed: int) -> dict[str, Tensor]:
    denoise_state(model).generator = torch.Generator().manual_seed(seed)
    batch = images(8, dtype=next(model.parameters()).dtype)
    return model(batch[rows], LABELS[rows], mode='loss')


@pytest.mark.parametrize('phase', PHASES)
def test_accumulated_step_is_that_of_the_mean_over_micro_batches(phase):
    """OptimWrapper divides the noise loss like the task loss, so that the size of its step does not grow."""
    model, reference = wrapped(phase), wrapped(phase)
    optimizer = OptimWrapper(torch.optim.SGD(model.parameters(), 0.1), accumulative_counts=2)
    optimizer.initialize_count_status(model, 0, 2)
    micro_batches = (slice(0, 4), slice(4, 8))
    for seed, rows in enumerate(micro_batches):
        optimizer.update_params(sum(losses(model, rows, seed).values()))
    (sum(sum(losses(reference, rows, seed).values()) for seed, rows in enumerate(micro_batches)) / 2).backward()
    torch.optim.SGD(reference.parameters(), 0.1).step()
    start = wrapped(phase).state_dict()
    for key, value in reference.state_dict().items():
        torch.testing.assert_close(model.state_dict()[key], value, rtol=1e-9, atol=1e-12)
    moved = {key for key, value in model.state_dict().items() if not torch.equal(value, start[key])}
    assert any('.denoiser.' in key for key in moved) == (phase != 'backbone')


BACKBONES = {
    'mmdet swin': (dict(type='mmdet.SwinTransformer', embed_dims=8, depths=(1, 1), num_heads=(1, 2), window_size=4,
                        strides=(4, 2), out_indices=(0, 1), drop_path_rate=0.3), 'linear'),
    'mmseg resnet': (dict(type='mmseg.ResNet', depth=18, base_channels=8, stem_channels=8), 'conv'),
}  # fmt: skip


@pytest.mark.parametrize('phase', ['denoise', 'joint'])
@pytest.mark.parametrize('name', BACKBONES)
@pytest.mark.filterwarnings('ignore:None of the inputs have requires_grad')
def test_with_cp_of_a_real_backbone_changes_neither_noise_loss_nor_gradients(name, phase):
    config, include = BACKBONES[name]
    pytest.importorskip(name.split()[0])
    import mmdet.models
    import mmseg.models

    assert mmdet.models and mmseg.models
    results = []
    for with_cp in (False, True):
        torch.manual_seed(0)
        model = MODELS.build(config | dict(with_cp=with_cp))
        model.train()  # mmdet's returns nothing
        convert(model, include)
        set_phase(model, phase)
        torch.manual_seed(3)
        outputs = model(images(2).repeat(1, 1, 8, 8))
        noise = noise_loss(model)
        (sum(output.square().mean() for output in outputs) + noise).backward()
        assert noise_loss(model) == 0  # the recomputation has recorded nothing
        gradients = {key: p.grad for key, p in model.named_parameters() if p.grad is not None}
        results.append((noise.detach(), gradients, snapshot(model)))
    (noise, gradients, state), (noise_cp, gradients_cp, state_cp) = results
    assert torch.equal(noise, noise_cp)
    assert len(gradients) >= len(denoise_layers(model))
    torch.testing.assert_close(gradients_cp, gradients, rtol=1e-4, atol=1e-6)
    if phase == 'denoise':
        assert all('.denoiser.' in key for key in gradients)
        torch.testing.assert_close(state_cp, state, rtol=0, atol=0)


@pytest.mark.parametrize('phase', PHASES)
def test_bfloat16_training_on_the_cpu_stays_near_float32(phase):
    """The noise loss and all weights stay float32; only the base model computes in bfloat16."""
    model, reference = wrapped(phase, torch.float32), wrapped(phase, torch.float32)
    for other, kind in ((model, CPUAmpOptimWrapper), (reference, OptimWrapper)):
        optimizer = kind(torch.optim.SGD(other.parameters(), 0.1))
        for seed in range(3):
            with optimizer.optim_context(other):
                terms = losses(other, slice(0, 8), seed)
            assert 'loss_denoise' not in terms or terms['loss_denoise'].dtype == torch.float32
            optimizer.update_params(sum(term.float() for term in terms.values()))
    start, precise = wrapped(phase, torch.float32).state_dict(), reference.state_dict()
    for key, value in model.state_dict().items():
        assert value.dtype == precise[key].dtype
        step = (precise[key] - start[key]).float().norm()
        assert (value - precise[key]).float().norm() <= 0.2 * step + 1e-6, key
    assert any(not torch.equal(value, precise[key]) for key, value in model.state_dict().items())


def test_autocast_merges_in_float32():
    """A step of c_e ~ 1e-3 would be lost among the eight bits of bfloat16 if the weights were merged in it."""
    layer = nn.Sequential(nn.Linear(8, 8))
    convert(layer, 'linear')
    with torch.autocast('cpu', torch.bfloat16):
        weight, bias = layer[0].effective_weight_bias()
    reference = layer[0].reparameterize()
    torch.testing.assert_close(weight, reference.weight.detach(), rtol=1e-6, atol=1e-7, check_dtype=True)
    torch.testing.assert_close(bias, reference.bias.detach(), rtol=1e-6, atol=1e-7, check_dtype=True)
