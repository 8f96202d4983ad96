"""Which parts of a module have been given weights by its constructor, as wrappers of other libraries' networks do."""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

from torch import nn
from torch.nn.modules.module import register_module_module_registration_hook

MARK = '_loaded_by_constructor'


@contextmanager
def watched_construction() -> Iterator[None]:
    """Mark the modules that become parts of others and whose weights are then loaded, by any loader of torch's."""

    def watch(_: nn.Module, __: str, part: nn.Module | None) -> None:
        if part is not None:
            stack.callback(part.register_load_state_dict_pre_hook(_mark).remove)

    with ExitStack() as stack:
        stack.callback(register_module_module_registration_hook(watch).remove)
        yield


def _mark(module: nn.Module, state_dict: Mapping[str, Any], prefix: str, *_: Any) -> None:
    if f'{prefix}weight' in state_dict:
        module.__dict__[MARK] = True  # an attribute, as copies of the module have the same weights


def take_marks(root: nn.Module) -> set[nn.Module]:
    """Return the marked modules, and take away what marked them."""
    loaded = set()
    for module in root.modules():
        hooks = module._load_state_dict_pre_hooks
        for key in [key for key, hook in hooks.items() if hook.hook is _mark]:  # those of copies
            del hooks[key]
        if module.__dict__.pop(MARK, False):
            loaded.add(module)
    return loaded
