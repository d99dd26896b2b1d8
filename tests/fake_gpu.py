"""What tests of a GPU need where there is none: fake tensors of one, and a watch over the copies to and from it."""

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class WaitingCopies(TorchDispatchMode):
    """Records copies between the CPU and a GPU for which the host waits."""

    def __init__(self):
        super().__init__()
        self.found = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        places = {x.device.type for x in tree_leaves((args, kwargs, out)) if isinstance(x, torch.Tensor)}
        asynchronous = bool(kwargs and kwargs.get('non_blocking')) or any(arg is True for arg in args)
        if len(places) > 1 and 'copy' in str(func) and not asynchronous:
            self.found.append(str(func))
        return out


def fake_weights(mode, module, device='cpu'):
    """``module``, built of real tensors, with parameters and buffers of the fake tensor ``mode``."""
    fake = lambda value: mode.from_tensor(value).detach().to(device)
    for part in module.modules():
        for tensors, kind in ((part._parameters, torch.nn.Parameter), (part._buffers, torch.Tensor.detach)):
            tensors.update({key: kind(fake(value)) for key, value in tensors.items() if value is not None})
    return module
