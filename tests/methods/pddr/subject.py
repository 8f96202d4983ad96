"""The training of PDDR that the tests of guarantees run."""

CONFIG = 'pddr/classification/resnet18-w32-pda_10e_mnist5k'
CHANGES = ''
