_base_ = './mobilenet-v2-cifar_kd-hint-wrn-28-2_200e_tiny-imagenet.py'

model = dict(kd=dict(_delete_=True, type='reprefine.RelationalKD', weight=1.0))
