_base_ = '../r50-pda_2xb64-60e_wflw-256x256.py'

model = dict(backbone=dict(deploy=True))
