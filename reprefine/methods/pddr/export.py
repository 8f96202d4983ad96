"""Export of deployed networks to ONNX."""

import warnings
from pathlib import Path

import torch
from torch import Tensor, nn

from reprefine.deploy import relative_difference
from reprefine.engine.errors import UserError
from reprefine.engine.files import complete_file

TOLERANCE = 1e-4


class _Network(nn.Module):
    """The part of an OpenMMLab model that maps images to tensors: a classifier's logits, else the feature maps."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        model = self.model
        if not hasattr(model, 'extract_feat'):
            outputs = model(images)
        elif hasattr(model, 'head') and hasattr(model.head, 'loss_module'):  # a classifier of mmpretrain
            outputs = model(images, mode='tensor')
        else:
            outputs = model.extract_feat(images)
        return (outputs,) if torch.is_tensor(outputs) else tuple(outputs)


@torch.no_grad()
def export_onnx(model: nn.Module, target: str | Path, shape: tuple[int, int] = (224, 224), opset: int = 17) -> float:
    """Write a deployed model as ONNX with any batch size, run it by onnxruntime and compare.

    PD-B is exported with the static kernels of all branches (``execution='output'``), since a graph cannot hold as many
    groups as there will be samples. Detectors and segmentors export backbone and neck; their heads need a deployment
    tool of their own.

    Args:
        model: Deployed model; evaluated, and left in evaluation mode.
        target: File to write; it appears whole or not at all.
        shape: Height and width of the images, in pixels.
        opset: Version of the operators.

    Returns:
        Largest relative difference between onnxruntime and PyTorch, for another batch size than was traced.

    Raises:
        UserError: If onnxruntime is not installed, or the two differ.
    """
    try:
        import onnxruntime
    except ModuleNotFoundError as error:
        raise UserError('export needs onnx and onnxruntime: pip install onnx onnxruntime') from error
    network = _Network(model.eval())
    images = torch.randn(3, 3, *shape, generator=torch.Generator().manual_seed(0))
    expected = network(images)
    names = [f'output{i}' for i in range(len(expected))]
    with complete_file(target) as partial:
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')  # constants of the trace; the comparison below judges them
            torch.onnx.export(
                network,
                (images[:2],),
                partial,
                input_names=['images'],
                output_names=names,
                dynamic_axes={name: {0: 'batch'} for name in ['images', *names]},
                opset_version=opset,
                dynamo=False,
            )
        session = onnxruntime.InferenceSession(partial, providers=['CPUExecutionProvider'])
        outputs = session.run(None, {'images': images.numpy()})
        pairs = zip(outputs, expected, strict=True)
        difference = max(relative_difference(torch.from_numpy(ours), theirs) for ours, theirs in pairs)
        if not difference <= TOLERANCE:
            raise UserError(f'{target}: onnxruntime differs by {difference:.1e} from PyTorch; nothing is written')
    return difference
