_base_ = '../../../baselines/landmarks/r50_2xb64-60e_wflw-256x256.py'

model = dict(backbone=dict(type='reprefine.PDResNet', pd_cfg=dict(mode='B'), deploy=True))
