_base_ = './vit-b-dinov2-dvt_linear_8xb2-40k_voc12-512x512.py'

model = dict(backbone=dict(crop_padding=True))
