# The teacher sees the image diffused to the timestep, not the clean one.
_base_ = '../distill/resnet18-cifar_repfusion-rl-hint_200e_cifar10.py'

model = dict(teacher=dict(noise_mode='forward'))
