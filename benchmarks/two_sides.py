"""A batched computation of losses beside a plain loop over the same rule: equal results, then turns in one process."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence

import report


def compare(
    name: str, batched: Callable, loop: Callable, leaves: Sequence, rounds: int, device: str, part: str, peer: str
) -> dict:
    """Assert that losses and gradients are equal, print the times, and return a row of a report.

    Args:
        name: What stands before the times.
        batched, loop: Losses by name.
        leaves: Tensors whose gradients are compared.
        rounds: Timed turns of each side, after one for warm-up.
        part, peer: What the row says of ours and of the loop.
    """
    import torch

    sides = {'batched': batched, 'loop': loop}
    wait = torch.cuda.synchronize if device.startswith('cuda') else lambda: None

    def run(side):
        """Losses, and seconds of forward and backward."""
        for leaf in leaves:
            leaf.grad = None
        wait()
        start = time.perf_counter()
        losses = sides[side]()
        wait()
        middle = time.perf_counter()
        sum(losses.values()).backward()
        wait()
        return losses, middle - start, time.perf_counter() - middle

    losses, *_ = run('batched')
    grads = [leaf.grad for leaf in leaves]
    expected, *_ = run('loop')
    assert losses.keys() == expected.keys()
    for key, value in expected.items():
        torch.testing.assert_close(losses[key], value, rtol=1e-5, atol=1e-6, msg=lambda m, k=key: f'{name} {k}: {m}')
    for grad, leaf in zip(grads, leaves):
        assert leaf.grad is not None
        torch.testing.assert_close(grad, leaf.grad, rtol=1e-4, atol=1e-7)
    del grads

    times: dict = {side: [] for side in sides}
    for _ in range(rounds):
        for side in sides:
            times[side].append(run(side)[1:])
    for side, values in times.items():
        forward, backward = (statistics.median(column) for column in zip(*values))
        print(f'{name:11s} {side:8s} forward {forward * 1000:9.1f} ms   backward {backward * 1000:8.1f} ms')
    ratio = statistics.median(sum(slow) / sum(ours) for ours, slow in zip(times['batched'], times['loop']))
    print(f'{name:11s} losses and gradients equal; loop / batched = {ratio:.2f}', flush=True)
    ours, slow = (statistics.median(map(sum, times[side])) for side in ('batched', 'loop'))
    return report.row(part, ours, 's', slow, peer)
