_base_ = ['../../baselines/object_discovery/vit-b-dinov2-reg_lost-norm_coco20k.py', '../_base_/vit-b-dinov2-reg.py']

model = dict(neck=_base_.denoiser)
