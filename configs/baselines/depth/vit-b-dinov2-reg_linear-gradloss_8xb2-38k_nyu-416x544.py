# With the gradient loss, which had no effect where the published numbers were measured.
_base_ = './vit-b-dinov2-reg_linear_8xb2-38k_nyu-416x544.py'

model = dict(decode_head=dict(loss_decode=_base_.with_gradient_loss))
