# The control of PD-A's step size: the sum of PD-A's five norms moves five times as far as one norm, and decays as fast.
# tools/experiments/pddr.py starts it from weights with PD-A's output and step of the convolutions.
_base_ = './resnet18-w32_10e_mnist5k.py'

norms = [f'layer{stage}.{block}.bn{number}' for stage in (1, 2, 3) for block in (0, 1) for number in (1, 2)]
optim_wrapper = dict(paramwise_cfg=dict(custom_keys={name: dict(lr_mult=5.0, decay_mult=0.2) for name in norms}))
