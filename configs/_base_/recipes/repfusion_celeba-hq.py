# A student learns from the unconditional DDPM of CelebA-HQ, from the training images only; nothing is evaluated.
_base_ = ['../datasets/celeba-hq_256x256.py', '../schedules/sgd_200e_small-images.py', '../runtime.py']

# Fetch it where there is a network, hf download google/ddpm-ema-celebahq-256, and put it into data/teachers.
teacher = dict(
    type='reprefine.DiffusionTeacher',
    source='google/ddpm-ema-celebahq-256',
    layers=[['mid_block.resnets.1.conv2', 512]],
)
custom_hooks = [*_base_.custom_hooks, dict(type='reprefine.DrawCountHook')]
train_cfg = dict(val_interval=1)
val_cfg = None
test_cfg = None
default_hooks = dict(checkpoint=dict(interval=50))
