"""Entropic partial optimal transport between image positions and prompts, many small problems at once (FedOTP)."""

import torch
from torch import Tensor


@torch.no_grad()
def partial_transport(
    cost: Tensor, mass: float, *, regularisation: float = 0.1, iterations: int = 100, threshold: float = 1e-3
) -> Tensor:
    """Moves `mass` from M positions with at most 1/M each to n prompts with exactly mass/n each, entropically.

    min_T <T, cost> + eps sum T (log T - 1) over T with T 1 <= 1/M and T^T 1 = mass/n, by alternating projections
    (u <= 1 scales rows down to their capacity, v scales columns to their share). mass 1 is plain Sinkhorn. Every
    problem stops by itself, so that a result does not depend on what else is in the batch.

    Args:
        cost: (..., M, n).
        mass: gamma, 0 < gamma <= 1.
        regularisation: eps.
        threshold: a problem stops when no column's scaling changes by more than this share.

    Returns:
        T, (..., M, n), without gradient.
    """
    kernel = (-cost / regularisation).exp()
    rows, columns = 1 / cost.shape[-2], mass / cost.shape[-1]
    u = torch.ones_like(kernel[..., 0])  # (..., M)
    v = torch.ones_like(kernel[..., 0, :])  # (..., n)
    running = torch.ones_like(v[..., :1], dtype=torch.bool)  # (..., 1)
    for _ in range(iterations):
        scaled = rows / (kernel * v[..., None, :]).sum(-1)
        new_u = scaled if mass == 1 else scaled.clamp_max(1.0)
        new_v = columns / (kernel * new_u[..., None]).sum(-2)
        change = ((new_v - v).abs() / new_v).amax(-1, keepdim=True)
        u, v = torch.where(running, new_u, u), torch.where(running, new_v, v)
        running = running & (change > threshold)
    return u[..., None] * kernel * v[..., None, :]
