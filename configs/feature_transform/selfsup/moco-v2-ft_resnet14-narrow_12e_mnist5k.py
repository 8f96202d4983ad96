_base_ = '../../baselines/selfsup/moco-v2_resnet14-narrow_12e_mnist5k.py'

model = dict(feature_transform=dict(pos=dict(alpha=2.0), neg=dict(alpha=1.6)))
