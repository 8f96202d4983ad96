"""The training of feature transformation that the tests of guarantees run: everything but its validation."""

CONFIG = 'feature_transform/selfsup/moco-v2-ft_resnet14-narrow_12e_mnist5k'
NUM_VIEWS = 2
CHANGES = """
model = dict(queue_len=8, backbone=dict(norm_cfg=dict(num_splits=1)))
custom_hooks = [hook for hook in _base_.custom_hooks if hook.type != 'reprefine.KNNMonitorHook']
"""
