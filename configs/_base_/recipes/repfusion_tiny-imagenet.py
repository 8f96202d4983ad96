# A student learns from the class-conditional ADM of 64x64 pixels; nothing is evaluated.
_base_ = ['../datasets/tiny-imagenet.py', '../schedules/sgd_200e_small-images.py', '../runtime.py']

teacher = dict(
    type='reprefine.DiffusionTeacher',
    source=dict(kind='ADM', checkpoint='data/teachers/64x64_diffusion.pt', recipe='imagenet64'),
    layers=[['mid_block.resnets.1.conv2', 768]],
    label_map='data/tiny-imagenet-200/wnids.txt',
)
# The teacher is told the class, so the reward must not be the guess of the class.
selector = dict(
    type='reprefine.RLTimestepSelectorHook', reward='neg_info_nce', baseline='ema', warmup_epochs=1, entropy_weight=0.0
)
train_dataloader = dict(batch_size=64)
optim_wrapper = dict(type='AmpOptimWrapper', loss_scale=512.0, optimizer=dict(nesterov=True))
averaging = dict(type='EMAHook', momentum=0.001, priority='ABOVE_NORMAL')
custom_hooks = [*_base_.custom_hooks, dict(type='reprefine.DrawCountHook'), averaging]
default_hooks = dict(checkpoint=dict(interval=50))
auto_scale_lr = dict(base_batch_size=64)
val_cfg = None
val_dataloader = None
val_evaluator = None
test_cfg = None
test_dataloader = None
test_evaluator = None
