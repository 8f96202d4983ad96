_base_ = '../../../baselines/segmentation/vit-b-clip_linear_8xb2-40k_ade20k-512x512.py'

model = dict(
    backbone=dict(
        img_size=512,
        checkpoint='work_dirs/dvt/distill/vit-b-clip_distill_8xb64-5e_in1k/epoch_5.pth',
        revise_keys=[(r'^backbone\.vit\.', '')],
    )
)
