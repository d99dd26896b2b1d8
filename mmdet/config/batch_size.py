from __future__ import annotations


def batch_size_message(
    per_process: int, processes: int, base: int, rate: float, scaled: bool, accumulated: int = 1
) -> str:
    """How the real batch size stands to the one that the learning rate was chosen for.

    Args:
        accumulated: Batches whose gradients make one step of the optimizer.
    """
    real = per_process * processes * accumulated
    product = f'{processes} x {per_process}' + (f', {accumulated} accumulated' if accumulated > 1 else '')
    text = f'batch size {real} ({product}), learning rate {rate:g} chosen for batch size {base}'
    if real == base:
        return f'{text}: they fit.'
    if scaled:
        return f'{text}: scaled by {real / base:g} to {rate * real / base:g}.'
    return f'{text}: --auto-scale-lr would make it {rate * real / base:g}.'
