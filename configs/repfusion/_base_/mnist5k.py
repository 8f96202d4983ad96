# The small diffusion model teaches for 30 epochs; its bottleneck is read in front of the skip connection.
teacher = dict(
    type='reprefine.DiffusionTeacher',
    source='work_dirs/repfusion/teacher/ddpm-small_60e_mnist5k-32px/teacher',
    layers=[['mid_block.resnets.1.conv2', 128]],
)
# Few iterations: every 50th timestep is a choice.
selector = dict(
    type='reprefine.RLTimestepSelectorHook',
    head=dict(num_classes=10),
    baseline='ema',
    warmup_epochs=1,
    entropy_weight=0.1,
    entropy_epochs=3,
    candidates=list(range(0, 1000, 50)),
)
optim_wrapper = dict(optimizer=dict(type='SGD', lr=0.1, momentum=0.9, weight_decay=1e-4))
param_scheduler = [dict(type='CosineAnnealingLR', T_max=30, by_epoch=True, convert_to_iter_based=True)]
train_cfg = dict(by_epoch=True, max_epochs=30, val_interval=5)
# Validation logs how much of the variance of the teacher's features the student explains.
val_cfg = dict()
test_cfg = dict()
