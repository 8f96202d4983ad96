"""Latent teachers against the modules of diffusers."""

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL, DDPMScheduler, UNet2DConditionModel
from torch.testing import assert_close

from reprefine.engine.errors import UserError
from reprefine.methods.repfusion import LatentDiffusionTeacher
from reprefine.methods.repfusion.functional import add_noise

from ..run import distiller, trained
from ..tiny import UNET, tiny_teacher

VAE = dict(block_out_channels=(8, 8), norm_num_groups=4, down_block_types=('DownEncoderBlock2D',) * 2) | dict(
    up_block_types=('UpDecoderBlock2D',) * 2, latent_channels=4, sample_size=16, scaling_factor=0.3
)
COND = dict(
    kind='UNet2DConditionModel',
    sample_size=8,
    block_out_channels=(8, 16),
    layers_per_block=1,
    down_block_types=('CrossAttnDownBlock2D', 'DownBlock2D'),
    up_block_types=('UpBlock2D', 'CrossAttnUpBlock2D'),
    norm_num_groups=4,
    cross_attention_dim=6,
    attention_head_dim=4,
)
LAYERS = [['mid_block.resnets.1.conv2', 16]]
X = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(0)) * 2 - 1
T = torch.tensor([3, 700])


def teacher(prompt='zeros', unet=COND, **options):
    source = (
        dict(unet=unet, prompt=str(prompt), vae=VAE) if isinstance(unet, dict) else dict(unet=unet, prompt=str(prompt))
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return LatentDiffusionTeacher(source, LAYERS, **options)


@pytest.fixture
def prompt(tmp_path):
    embedding = np.random.default_rng(0).normal(size=(5, 6)).astype(np.float32)
    np.save(tmp_path / 'prompt.npy', embedding)
    return tmp_path / 'prompt.npy'


@pytest.mark.parametrize('noise_mode', ['none', 'forward'])
def test_features_are_those_of_the_modules(prompt, noise_mode):
    latent_teacher, kept = teacher(prompt, noise_mode=noise_mode), {}
    feats = latent_teacher(X, T)[0]
    latent_teacher.recorder.early_exit = False
    latent_teacher.unet.mid_block.resnets[1].conv2.register_forward_hook(lambda m, i, o: kept.update(feat=o))
    with torch.no_grad():
        z = latent_teacher.vae.encode(X).latent_dist.mean * 0.3
        if noise_mode == 'forward':
            latent_teacher.rng.count = 0
            noise = torch.randn(z.shape, generator=latent_teacher.rng.next_generator())
            z = add_noise(z, T, DDPMScheduler().alphas_cumprod, noise)
        text = torch.from_numpy(np.load(prompt)).expand(2, -1, -1)
        latent_teacher.unet(z, T, encoder_hidden_states=text)
    assert_close(feats, kept['feat'])
    assert (latent_teacher.size, latent_teacher.in_channels) == ((16, 16), 3)


def test_prompt_changes_features_and_fingerprint(prompt):
    one, other = teacher(prompt), teacher()
    assert not torch.allclose(one(X, T)[0], other(X, T)[0])
    assert one.fingerprint() != other.fingerprint()


def test_saved_modules_are_loaded(tmp_path, prompt):
    latent_teacher = teacher(prompt)
    latent_teacher.unet.save_pretrained(tmp_path / 'sd/unet')
    latent_teacher.vae.save_pretrained(tmp_path / 'sd/vae')
    DDPMScheduler(num_train_timesteps=800).save_pretrained(tmp_path / 'sd/scheduler')
    again = teacher(prompt, str(tmp_path / 'sd'))
    assert isinstance(again.unet, UNet2DConditionModel)
    assert isinstance(again.vae, AutoencoderKL)
    assert torch.equal(again(X, T)[0], latent_teacher(X, T)[0])
    assert again.num_timesteps == 800


def test_policy_and_student_are_trained_with_a_latent_teacher(tmp_path):
    config = dict(
        type='reprefine.LatentDiffusionTeacher', source=dict(unet=COND, vae=VAE, prompt='zeros'), layers=LAYERS
    )
    run = trained(tmp_path, {}, model=distiller(teacher=config))
    assert np.isfinite([run.message_hub.get_scalar('train/loss_feat').current()]).all()
    assert not [key for key in run.model.state_dict() if 'vae' in key]


def test_wrong_settings_are_named(tmp_path, prompt):
    np.save(tmp_path / 'wide.npy', np.zeros((5, 7), np.float32))
    for make, message in (
        (lambda: tiny_teacher(source=COND), 'works on latents: use reprefine.LatentDiffusionTeacher'),
        (lambda: teacher(unet=UNET), 'needs a UNet2DConditionModel'),
        (lambda: teacher(tmp_path / 'absent.npy'), 'does not exist'),
        (lambda: teacher(tmp_path / 'wide.npy'), r'has the shape \[5, 7\], not \[L, 6\]'),
        (lambda: LatentDiffusionTeacher(COND, LAYERS), 'give a dict of unet, prompt'),
        (lambda: LatentDiffusionTeacher(dict(unet=COND, prompt='zeros'), LAYERS), 'source has no vae'),
    ):
        with pytest.raises(UserError, match=message):
            make()
