_base_ = './wrn-28-2-cifar_kd-hint-wrn-28-2_200e_cifar10.py'

model = dict(kd=dict(_delete_=True, type='reprefine.AttentionKD', weight=1.0))
