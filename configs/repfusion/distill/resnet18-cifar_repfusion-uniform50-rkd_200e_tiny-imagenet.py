_base_ = './resnet18-cifar_repfusion-uniform50-hint_200e_tiny-imagenet.py'

model = dict(loss=dict(_delete_=True, type='reprefine.RelationalLoss'))
