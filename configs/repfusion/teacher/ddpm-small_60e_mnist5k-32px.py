_base_ = './ddpm-small_20e_mnist5k-32px.py'

# Twice as many channels in the bottleneck. A constant learning rate, so that the training can be extended for as long as
# the features improve: the checkpoints are kept for tools/experiments/repfusion_teacher.py.
model = dict(unet=dict(block_out_channels=(16, 32, 64, 128)))
param_scheduler = [dict(type='LinearLR', start_factor=0.01, by_epoch=False, end=200)]
train_cfg = dict(max_epochs=60, val_interval=20)
default_hooks = dict(checkpoint=dict(max_keep_ckpts=-1))
