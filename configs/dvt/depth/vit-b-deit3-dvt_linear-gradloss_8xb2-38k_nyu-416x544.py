_base_ = './vit-b-deit3-dvt_linear_8xb2-38k_nyu-416x544.py'

# With the gradient loss, which had no effect where the published numbers were measured.
losses = [dict(type='reprefine.SigLoss'), dict(type='reprefine.GradientLoss', loss_weight=0.5)]
model = dict(decode_head=dict(loss_decode=losses))
