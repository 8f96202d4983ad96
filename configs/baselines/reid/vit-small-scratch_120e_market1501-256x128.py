# Without pre-training: the same recipe from random weights.
_base_ = './vit-small_120e_market1501-256x128.py'

load_from = None
