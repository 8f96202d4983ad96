_base_ = './resnet18-cifar_kd-logits-wrn-28-10_200e_tiny-imagenet.py'

model = dict(kd=dict(_delete_=True, type='reprefine.SoftTargetKD', temperature=4.0))
