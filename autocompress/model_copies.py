"""Why a user's module cannot be copied: by what it holds, what it does not hold yet, or for want of memory."""

import copy

from torch import nn
from torch.nn.parameter import is_lazy

from autocompress.errors import UsageError
from autocompress.machine.memory import memory_bytes

COPIED_BYTES = 4  # of a number, in float32
WORDS_OF_MEMORY = ("can't allocate memory", "not enough memory", "Cannot allocate memory", "out of memory")
RESULT = "created explicitly by the user"  # what torch says of a result of an earlier call, which is copied otherwise
OF_EVERY_MODULE = {*vars(nn.Module())}  # what every module holds


def refuse_uninitialized(model: nn.Module) -> None:
    """Raises UsageError naming the first weight that has no shape until its module is called, as nn.LazyLinear's."""
    name = next((name for name, tensor in (*model.named_parameters(), *model.named_buffers()) if is_lazy(tensor)), None)
    if name is not None:
        raise UsageError(
            f"Task.model has no weights yet: {name} has a shape once the model was called; call it on an example in "
            "the task factory, and load its trained weights then"
        )


def refuse_too_large(model: nn.Module) -> None:
    """Raises UsageError where a module and its copy in float32 cannot both be in the memory of this machine."""
    held, copied = _bytes(model)
    if held + copied > memory_bytes():
        raise too_large(model)


def too_large(model: nn.Module) -> UsageError:
    """What to tell of such a module."""
    held, copied = _bytes(model)
    return UsageError(
        f"Task.model does not fit into memory twice: its weights take {held / 1e9:.3g} GB, a copy of them in float32 "
        f"{copied / 1e9:.3g} GB, and here there are {memory_bytes() / 1e9:.3g} GB in all: take a machine with more "
        "memory (in a container: raise memory.max), or a smaller model of its family"
    )


def is_of_memory(error: Exception) -> bool:
    return isinstance(error, MemoryError) or any(words in str(error) for words in WORDS_OF_MEMORY)


def uncopyable(model: nn.Module) -> str:
    """Which attribute of which module inside it is, before what was said of it; empty where each can be copied by
    itself.
    """
    for name, module in reversed(list(model.named_modules())):  # what is inside first
        where = f"{name} ({type(module).__name__})" if name else type(module).__name__
        own = {key: value for key, value in vars(module).items() if key not in OF_EVERY_MODULE}
        if found := next((key for key, value in own.items() if not _can_be_copied(value)), None):
            return f"{found} of {where}: "
        if "__deepcopy__" in vars(type(module)) and not _can_be_copied(module):
            return f"{where}: "
    return ""


def _can_be_copied(value: object) -> bool:
    try:
        copy.deepcopy(value)
    except Exception as error:  # of anybody's code
        return RESULT in str(error)
    return True


def _bytes(model: nn.Module) -> tuple[int, int]:
    """Of a module's weights and buffers as they are on this machine's side, and of their copies."""
    tensors = [*model.parameters(), *model.buffers()]
    here = sum(tensor.numel() * tensor.element_size() for tensor in tensors if tensor.device.type == "cpu")
    return here, sum(COPIED_BYTES * tensor.numel() for tensor in tensors)
