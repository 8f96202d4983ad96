"""Records the modules whose weights a constructor loads, as wrappers of timm or Hugging Face networks do."""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

from torch import nn
from torch.nn.modules.module import register_module_module_registration_hook

LOADED = '_loaded_by_constructor'


@contextmanager
def record_weight_loading() -> Iterator[None]:
    """Mark the modules registered in this context whose weights are loaded by ``load_state_dict``."""

    def add_hook(_: nn.Module, __: str, part: nn.Module | None) -> None:
        if part is not None:
            stack.callback(part.register_load_state_dict_pre_hook(_mark).remove)

    with ExitStack() as stack:
        stack.callback(register_module_module_registration_hook(add_hook).remove)
        yield


def _mark(module: nn.Module, state_dict: Mapping[str, Any], prefix: str, *_: Any) -> None:
    if f'{prefix}weight' in state_dict:
        module.__dict__[LOADED] = True  # an attribute, so that copies of the module are marked too


def pop_loaded_modules(root: nn.Module) -> set[nn.Module]:
    """Return the marked modules of ``root``, and remove their marks and hooks."""
    loaded = set()
    for module in root.modules():
        hooks = module._load_state_dict_pre_hooks
        for key in [key for key, hook in hooks.items() if hook.hook is _mark]:  # hooks of copied modules
            del hooks[key]
        if module.__dict__.pop(LOADED, False):
            loaded.add(module)
    return loaded
