# Not of the paper: patches vote with their shares of the classes, weighted by similarity; a sample of 500,000 of them.
_base_ = ['../../baselines/segmentation/vit-b-dinov2_knn20_ade20k-518x518.py', '../_base_/vit-b-dinov2.py']

model = dict(neck=_base_.denoiser, decode_head=_base_.of_30_patches)
