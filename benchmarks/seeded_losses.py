"""Print the loss values and a digest of all gradients of every head of the test tables, seeded: a line a head and loss.

Run once before and once after a change that must not move a number, and compare the two with diff:

    PYTHONPATH=. python benchmarks/seeded_losses.py > after.txt
"""

import hashlib
import importlib
import sys
from pathlib import Path

import torch

TESTS = Path(sys.argv[1] if len(sys.argv) > 1 else Path(__file__).resolve().parents[1]) / 'tests' / 'models'
for folder in ('dense_heads', 'roi_heads'):
    sys.path.insert(0, str(TESTS / folder))


def digest(tensors) -> str:
    sha = hashlib.sha256()
    for name, tensor in tensors:
        sha.update(name.encode())
        sha.update(
            tensor.detach().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
            if tensor is not None
            else b'none'
        )
    return sha.hexdigest()[:16]


def report(name, module, losses, predictions):
    values = {}
    for key, value in losses.items():
        parts = value if isinstance(value, (list, tuple)) else [value]
        values[key] = sum(part.sum() if part.dim() else part for part in parts)
    total = sum(value for key, value in values.items() if 'loss' in key)
    total.backward()
    for key, value in values.items():
        print(f'{name} | {key} | {float(value.detach()).hex()}')
    print(f'{name} | gradients | {digest((n, p.grad) for n, p in module.named_parameters())}')
    flat = []
    for i, result in enumerate(predictions):
        for key in sorted(result.keys()):
            value = result[key]
            flat.append((f'{i}.{key}', (value.tensor if hasattr(value, 'tensor') else value).float()))
    print(f'{name} | predictions | {digest(flat)}', flush=True)


def main() -> None:
    torch.set_num_threads(1)
    from mmengine.registry import init_default_scope

    init_default_scope('mmdet')
    dense = importlib.import_module('head_table')
    for name in dense.HEADS:
        head = dense.build_head(name, init=False).train()
        torch.manual_seed(1)
        losses = head.loss(dense.features(3), dense.for_head(name, dense.samples('many', 'one', 'empty')))
        head_eval = dense.build_head(name, init=False).eval()
        report(name, head, losses, head_eval.predict(dense.features(2), dense.samples('many', 'one'), rescale=True))
    two = importlib.import_module('two_stage_table')
    for name in two.TABLE:
        model = two.build(name).train()
        torch.manual_seed(1)
        losses = model.loss(two.images(3), [two.sample(3, 0), two.sample(2, 1), two.sample(0, 2)])
        with torch.no_grad():
            predictions = two.build(name).eval().predict(two.images(), [two.sample(1), two.sample(0)], rescale=False)
        report(name, model, losses, [p.pred_instances for p in predictions])


if __name__ == '__main__':
    main()
