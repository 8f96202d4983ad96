# Linear depth probe on NYU depth v2.
_base_ = [
    '../models/linear-depth-estimator.py',
    '../datasets/nyu_416x544.py',
    '../schedules/adamw_linear-depth_38k.py',
    'mmseg::_base_/default_runtime.py',
    '../reprefine.py',
]
