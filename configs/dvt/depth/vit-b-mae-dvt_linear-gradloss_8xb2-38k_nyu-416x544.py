# With the gradient loss, which had no effect where the published numbers were measured.
_base_ = ['../../baselines/depth/vit-b-mae_linear_8xb2-38k_nyu-416x544.py', '../_base_/vit-b-mae.py']

model = dict(neck=_base_.denoiser, decode_head=dict(loss_decode=_base_.with_gradient_loss))
