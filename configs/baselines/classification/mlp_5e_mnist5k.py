_base_ = [
    '../../_base_/models/mlp_mnist.py',
    '../../_base_/recipes/adadelta_5e_mnist5k.py',
    '../../_base_/runtime.py',
]

randomness = dict(seed=1)
