_base_ = './resnet18-cifar_repfusion-uniform50-hint_200e_tiny-imagenet.py'

model = dict(timestep_source=None)
# As in the released code: the reward is the classification of a class-conditional teacher, without a baseline, and
# nothing keeps the policy from settling.
selector = dict(
    type='reprefine.RLTimestepSelectorHook',
    head=dict(num_classes=200, hidden=384),
    baseline='none',
    entropy_weight=0.0,
)
custom_hooks = [*_base_.fixed_hooks, selector]
