_base_ = [
    '../../baselines/selfsup/moco-v2_resnet50_8xb32-coslr-200e_in1k.py',
    '../_base_/feature_transform.py',
]

model = dict(type='reprefine.MoCoFT', feature_transform={{_base_.feature_transform}})
# Each process draws its own coefficients.
randomness = dict(diff_rank_seed=True)
