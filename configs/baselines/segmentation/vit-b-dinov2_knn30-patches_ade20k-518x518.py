# Not of the paper: patches vote with their shares of the classes, weighted by similarity; a sample of 500,000 of them.
_base_ = './vit-b-dinov2_knn20_ade20k-518x518.py'

model = dict(decode_head=_base_.of_30_patches)
