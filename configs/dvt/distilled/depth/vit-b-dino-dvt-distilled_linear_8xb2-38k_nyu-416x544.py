_base_ = '../../../baselines/depth/vit-b-dino_linear_8xb2-38k_nyu-416x544.py'

model = dict(
    backbone=dict(
        img_size=512,
        checkpoint='work_dirs/dvt/distill/vit-b-dino_distill_8xb64-5e_in1k/epoch_5.pth',
        revise_keys=[(r'^backbone\.vit\.', '')],
    )
)
