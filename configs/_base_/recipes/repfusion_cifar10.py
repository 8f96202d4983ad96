# A student learns from the unconditional DDPM of CIFAR-10; nothing is evaluated.
_base_ = ['../datasets/cifar10.py', '../schedules/sgd_200e_small-images.py', '../runtime.py']

# Fetch it where there is a network, hf download google/ddpm-cifar10-32, and put it into data/teachers.
teacher = dict(
    type='reprefine.DiffusionTeacher', source='google/ddpm-cifar10-32', layers=[['mid_block.resnets.1.conv2', 256]]
)
# The policy starts to learn when the head has seen the data once. Its rate follows the student's.
selector = dict(type='reprefine.RLTimestepSelectorHook', head=dict(num_classes=10), baseline='ema', warmup_epochs=1)
train_dataloader = dict(batch_size=128)
custom_hooks = [
    *_base_.custom_hooks,
    dict(type='reprefine.DrawCountHook'),
    dict(type='EMAHook', momentum=0.001, priority='ABOVE_NORMAL'),
]
default_hooks = dict(checkpoint=dict(interval=50))
val_cfg = None
val_dataloader = None
val_evaluator = None
test_cfg = None
test_dataloader = None
test_evaluator = None
