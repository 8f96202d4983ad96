# Negatives are interpolated, positives left alone.
_base_ = '../../baselines/selfsup/moco-v2_resnet14-narrow_60e_mnist5k.py'

model = dict(feature_transform=dict(pos=None, neg=dict(alpha=1.6)))
