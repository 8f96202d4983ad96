_base_ = './mobilenet-v2-cifar_repfusion-rl-hint_200e_cifar10.py'

model = dict(loss=dict(_delete_=True, type='reprefine.RelationalLoss'))
