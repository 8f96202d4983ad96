# Distribution of the positives' coefficient: Beta(5.0, 5.0) + 1.
_base_ = '../selfsup/moco-v2-ft_resnet50_8xb32-coslr-200e_in100.py'

model = dict(feature_transform=dict(pos=dict(alpha=5.0)))
