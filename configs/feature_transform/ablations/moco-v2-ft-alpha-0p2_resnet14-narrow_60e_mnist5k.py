# Distribution of both coefficients: Beta(0.2, 0.2), plus 1 for the positives.
_base_ = '../../baselines/selfsup/moco-v2_resnet14-narrow_60e_mnist5k.py'

model = dict(feature_transform=dict(pos=dict(alpha=0.2), neg=dict(alpha=0.2)))
