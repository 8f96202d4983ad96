# A student learns from the unconditional DDPM of CIFAR-10; nothing is evaluated.
_base_ = [
    'mmpretrain::_base_/datasets/cifar10_bs16.py',
    'mmpretrain::_base_/schedules/cifar10_bs128.py',
    'mmpretrain::_base_/default_runtime.py',
]

custom_imports = dict(imports=['reprefine'], allow_failed_imports=False)
# Fetch it where there is a network, hf download google/ddpm-cifar10-32, and put it into data/teachers.
teacher = dict(
    type='reprefine.DiffusionTeacher', source='google/ddpm-cifar10-32', layers=[['mid_block.resnets.1.conv2', 256]]
)
# The policy starts to learn when the head has seen the data once. Its rate follows the student's.
selector = dict(type='reprefine.RLTimestepSelectorHook', head=dict(num_classes=10), baseline='ema', warmup_epochs=1)
data_preprocessor = dict(mean=[128.0] * 3, std=[128.0] * 3)
train_dataloader = dict(batch_size=128, dataset=dict(type='reprefine.CIFAR10', data_root='data/cifar10'))
train_cfg = dict(val_interval=5)
# A leaf with a policy adds it to the hooks; one without averaged weights takes the first list.
unaveraged_hooks = [dict(type='reprefine.DrawCountHook')]
fixed_hooks = [*unaveraged_hooks, dict(type='EMAHook', momentum=0.001, priority='ABOVE_NORMAL')]
custom_hooks = fixed_hooks
default_hooks = dict(logger=dict(interval=10), checkpoint=dict(interval=50, max_keep_ckpts=2))
randomness = dict(seed=0, diff_rank_seed=True)
val_cfg = None
val_dataloader = None
val_evaluator = None
test_cfg = None
test_dataloader = None
test_evaluator = None
