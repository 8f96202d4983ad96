_base_ = ['../../baselines/segmentation/vit-b-dinov2_knn20_voc12-518x518.py', '../_base_/vit-b-dinov2.py']

model = dict(neck=_base_.denoiser)
