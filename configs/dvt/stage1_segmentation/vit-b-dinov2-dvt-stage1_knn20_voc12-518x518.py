_base_ = '../../baselines/segmentation/vit-b-dinov2_knn20_voc12-518x518.py'

# What stage 1 (vit-b-dinov2_denoise-field_768views.py) has made of the training and validation images.
load = dict(
    type='reprefine.LoadFeatureMap', root='data/dvt/field/denoised_features/vit_base_patch14_dinov2.lvd142m', levels=3
)
pipeline = [load, dict(type='LoadAnnotations'), dict(type='PackSegInputs')]
model = dict(
    data_preprocessor=dict(mean=None, std=None, bgr_to_rgb=False),
    backbone=dict(_delete_=True, type='reprefine.StoredFeatures'),
)
train_dataloader = dict(dataset=dict(pipeline=pipeline))
val_dataloader = dict(dataset=dict(pipeline=pipeline))
test_dataloader = val_dataloader
