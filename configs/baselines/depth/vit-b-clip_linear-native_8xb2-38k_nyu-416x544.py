_base_ = './vit-b-clip_linear_8xb2-38k_nyu-416x544.py'

model = dict(backbone=dict(norm='native'))
