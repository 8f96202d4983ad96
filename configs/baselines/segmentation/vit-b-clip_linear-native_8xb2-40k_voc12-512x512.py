_base_ = './vit-b-clip_linear_8xb2-40k_voc12-512x512.py'

model = dict(backbone=dict(norm='native'))
