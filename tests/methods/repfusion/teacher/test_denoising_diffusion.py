"""Training of a diffusion model as a teacher: errors, samples, and loading of the exported files."""

import math
from types import SimpleNamespace

import pytest
import torch
from diffusers import DDIMPipeline, DDIMScheduler, DDPMScheduler
from mmpretrain.structures import DataSample
from torch.testing import assert_close

from reprefine.engine.errors import UserError
from reprefine.methods.repfusion import DenoisingDiffusion, DiffusionTeacher, denoising_errors, save_teacher
from reprefine.methods.repfusion.teacher.denoising_diffusion import prediction_target
from reprefine.methods.repfusion.teacher.sampling import DenoisingError, SampleGridHook, ddim_samples, make_image_grid

from ..tiny import LAYER, UNET

NET = {key: value for key, value in UNET.items() if key != 'kind'}
PIXELS = dict(type='ImgDataPreprocessor', mean=[127.5] * 3, std=[127.5] * 3)


def model(**options):
    torch.manual_seed(0)
    return DenoisingDiffusion(**(dict(unet=NET, data_preprocessor=PIXELS) | options)).eval()


def images(number=3, seed=0):
    return torch.rand(number, 3, 16, 16, generator=torch.Generator().manual_seed(seed)) * 2 - 1


class Perfect(torch.nn.Module):
    """Predicts the noise without error, from the clean image."""

    def __init__(self, scheduler, clean):
        super().__init__()
        self.abar, self.clean = scheduler.alphas_cumprod, clean

    def forward(self, noisy, timesteps, **condition):
        abar = self.abar[timesteps].reshape(-1, 1, 1, 1)
        noise = (noisy - abar.sqrt() * self.clean) / (1 - abar).sqrt()
        return type('Output', (), dict(sample=noise))


def test_errors_are_the_mean_squared_difference_to_the_noise_at_the_noisy_image():
    m, x, noise, t = model(), images(), images(seed=1), torch.tensor([0, 300, 999])
    abar = m.scheduler.alphas_cumprod[t].view(-1, 1, 1, 1)
    predicted = m.unet(abar.sqrt() * x + (1 - abar).sqrt() * noise, t).sample
    errors = denoising_errors(m.unet, m.scheduler, x, t, noise)
    assert_close(errors, (predicted - noise).square().mean((1, 2, 3)))


def test_perfect_network_has_no_error():
    scheduler, x = DDPMScheduler(), images()
    errors = denoising_errors(Perfect(scheduler, x), scheduler, x, torch.tensor([50, 500, 999]), images(seed=1))
    assert errors.max() < 1e-6


@pytest.mark.parametrize('kind', ['epsilon', 'v_prediction'])
def test_half_precision_keeps_the_noise_of_the_first_step(kind):
    scheduler, inputs = DDPMScheduler(prediction_type=kind), []
    x, noise, t = torch.zeros(3, 3, 16, 16).half(), images(seed=1).half(), torch.zeros(3, dtype=torch.long)

    def network(noisy, *_):
        inputs.append(noisy)
        return type('Output', (), dict(sample=torch.zeros_like(noisy)))

    denoising_errors(network, scheduler, x, t, noise)
    assert inputs[0].dtype == torch.half
    assert_close(inputs[0].float(), 0.01 * noise.float(), rtol=0.01, atol=1e-5)
    if kind == 'v_prediction':
        assert_close(prediction_target(scheduler, noise, x, t).float(), -0.01 * noise.float(), rtol=0.01, atol=1e-5)


def test_schedule_is_the_published_one():
    betas = torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64)
    assert_close(model().scheduler.alphas_cumprod.double(), (1 - betas).cumprod(0), rtol=1e-4, atol=1e-8)


@pytest.mark.parametrize('kind', ['epsilon', 'v_prediction', 'sample'])
def test_targets(kind):
    scheduler = DDPMScheduler(prediction_type=kind)
    x, noise, t = images(), images(seed=1), torch.tensor([1, 400, 900])
    abar = scheduler.alphas_cumprod[t].view(-1, 1, 1, 1)
    expected = dict(epsilon=noise, v_prediction=abar.sqrt() * noise - (1 - abar).sqrt() * x, sample=x)
    assert_close(prediction_target(scheduler, x, noise, t), expected[kind])


def test_evaluation_is_deterministic_and_its_metric_averages():
    m, x = model(), images()
    first, second = (m(x, None, mode='predict') for _ in range(2))
    rows = torch.stack([sample.errors for sample in first])
    assert torch.equal(rows, torch.stack([sample.errors for sample in second]))
    assert rows.shape == (3, 5)
    metric = DenoisingError()
    metric.process(None, [sample.to_dict() | dict(timesteps=sample.timesteps) for sample in first[:2]])
    metric.process(None, [sample.to_dict() | dict(timesteps=sample.timesteps) for sample in first[2:]])
    values = metric.evaluate(3)
    assert_close(values['mse/t0500'], rows[:, 3].mean().item())
    assert_close(values['mse/mean'], rows.mean().item())


def test_loss_of_an_untrained_network_is_near_one_and_decreases():
    m = model().train()
    optimizer = torch.optim.Adam(m.parameters(), lr=2e-3)
    x = images(8) * 0 + 0.5
    history = []
    for _ in range(60):
        optimizer.zero_grad()
        value = m(x, None, mode='loss')['loss']
        value.backward()
        optimizer.step()
        history.append(value.item())
    assert 0.7 < history[0] < 1.6
    assert sum(history[-10:]) < 0.6 * sum(history[:10])


def test_sampler_is_that_of_diffusers():
    m = model()
    noise = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(3))
    pipeline = DDIMPipeline(m.unet, DDIMScheduler.from_config(m.scheduler.config))
    pipeline.set_progress_bar_config(disable=True)
    generator = [torch.Generator().manual_seed(seed) for seed in (3, 4)]
    start = torch.cat([torch.randn(1, 3, 16, 16, generator=torch.Generator().manual_seed(seed)) for seed in (3, 4)])
    expected = pipeline(batch_size=2, generator=generator, num_inference_steps=5, output_type='np', eta=0.0).images
    got = ddim_samples(m.unet, m.scheduler, start, 5)
    assert_close(got.permute(0, 2, 3, 1) / 2 + 0.5, torch.from_numpy(expected), atol=1e-5, rtol=1e-5)
    assert torch.equal(ddim_samples(m.unet, m.scheduler, noise, 3), ddim_samples(m.unet, m.scheduler, noise, 3))


def test_perfect_network_samples_its_image():
    scheduler = DDPMScheduler()
    clean = images(2) * 0.9
    assert_close(
        ddim_samples(Perfect(scheduler, clean), scheduler, torch.randn(2, 3, 16, 16), 20), clean, atol=1e-3, rtol=0
    )


def test_grid_has_the_samples_in_order():
    tiles = torch.stack([torch.full((3, 4, 4), value) for value in (-1.0, 0.0, 1.0, 1.0)])
    pixels = make_image_grid(tiles)
    assert pixels.dtype.name == 'uint8'
    assert [int(pixels[3 + 6 * row, 3 + 6 * column, 0]) for row in (0, 1) for column in (0, 1)] == [0, 128, 255, 255]


def test_samples_of_the_hook_are_deterministic_and_of_all_classes_cyclically():
    hook = SampleGridHook(num=4, steps=2)
    hook._shape = (3, 16, 16)
    m = model(unet=dict(NET, num_class_embeds=2))
    first = hook.sample(m)
    torch.manual_seed(5)
    assert torch.equal(first, hook.sample(m))
    labels = []
    m.unet.register_forward_pre_hook(lambda _, args, kwargs: labels.append(kwargs['class_labels']), with_kwargs=True)
    hook.sample(m)
    assert labels[0].tolist() == [0, 1, 0, 1]


def test_hook_logs_mean_and_deviation_of_samples_and_of_the_evaluated_images():
    hook, m, logged = SampleGridHook(num=2, steps=1), model(), {}
    runner = SimpleNamespace(
        model=m,
        iter=0,
        logger=SimpleNamespace(info=lambda text: None),
        message_hub=SimpleNamespace(update_scalar=logged.__setitem__),
        visualizer=SimpleNamespace(add_image=lambda *args, **kwargs: None),
    )
    pixels = torch.cat([torch.full((2, 3, 16, 16), 204), torch.full((2, 3, 16, 16), 102)]).byte()
    for batch in pixels.split(2):
        hook.after_val_iter(runner, 0, dict(inputs=batch))
    hook.after_val_epoch(runner)
    images, samples = pixels.double() / 127.5 - 1, hook.sample(m)
    expected = dict(data_mean=images.mean(), data_std=images.std(correction=0))
    expected |= dict(sample_mean=samples.mean(), sample_std=samples.std())
    assert logged == pytest.approx({f'val/{name}': value.item() for name, value in expected.items()}, abs=1e-5)


def test_exported_model_is_loaded_by_the_teacher(tmp_path):
    m = model()
    save_teacher(m, m.state_dict(), tmp_path / 'teacher')
    shifted = {key: value + 1 for key, value in m.state_dict().items()}
    save_teacher(m, shifted, tmp_path / 'teacher')
    save_teacher(m, m.state_dict(), tmp_path / 'teacher')
    assert sorted(path.name for path in tmp_path.iterdir()) == ['teacher']
    teacher = DiffusionTeacher(str(tmp_path / 'teacher'), [LAYER])
    for name, value in teacher.unet.state_dict().items():
        assert torch.equal(value, m.unet.state_dict()[name]), name
    assert_close(teacher.alphas_cumprod, m.scheduler.alphas_cumprod)


def test_wrong_settings_are_named():
    with pytest.raises(UserError, match='1000 is outside 0..999'):
        model(eval_timesteps=(0, 1000))
    for pixels in (None, dict(PIXELS, std=[128.0] * 3)):
        with pytest.raises(UserError, match='set both to 127.5'):
            model(data_preprocessor=pixels)
    with pytest.raises(UserError, match='choose from epsilon'):
        prediction_target(type('S', (), dict(config=type('C', (), dict(prediction_type='x')))), None, None, None)


@pytest.mark.parametrize(('last', 'message'), [(-1, 'have no labels'), (2, 'label 2 .*num_class_embeds.* 2 classes')])
def test_a_class_conditional_network_needs_a_label_of_every_image(last, message):
    m = model(unet=dict(NET, num_class_embeds=2))
    m(images(), [DataSample().set_gt_label(label) for label in (0, 1, 1)], mode='loss')
    for given in ([DataSample().set_gt_label(label) for label in (0, 1, last)], None)[: 1 + (last < 0)]:
        with pytest.raises(UserError, match=message):
            m(images(), given, mode='loss')


def test_variance_of_the_noise_mode_matches_the_closed_form():
    scheduler = DDPMScheduler()
    assert math.isclose(float(scheduler.alphas_cumprod[0]), 0.9999, rel_tol=1e-6)
    assert math.isclose(float(scheduler.alphas_cumprod[500]), 0.0778, rel_tol=1e-2)
