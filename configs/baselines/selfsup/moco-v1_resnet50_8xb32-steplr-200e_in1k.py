# MoCo v1 with the learning rate of its published checkpoint, not the cosine of MoCo v1 + FT.
_base_ = './moco-v1_resnet50_8xb32-coslr-200e_in1k.py'

param_scheduler = [dict(type='MultiStepLR', by_epoch=True, milestones=[120, 160], gamma=0.1)]
