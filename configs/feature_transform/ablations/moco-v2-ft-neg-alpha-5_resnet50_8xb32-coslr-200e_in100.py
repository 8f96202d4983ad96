# Distribution of the negatives' coefficient: Beta(5.0, 5.0).
_base_ = '../selfsup/moco-v2-ft_resnet50_8xb32-coslr-200e_in100.py'

model = dict(feature_transform=dict(neg=dict(alpha=5.0)))
