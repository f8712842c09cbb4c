"""Entropic partial optimal transport between image positions and prompts, many small problems at once (FedOTP)."""

import torch
from torch import Tensor


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
    cost = cost.detach()
    rows, columns = 1 / cost.shape[-2], mass / cost.shape[-1]
    shape = cost.transpose(-1, -2).shape
    kernel = (-cost / regularisation).exp().transpose(-1, -2).reshape(-1, *shape[-2:]).contiguous()  # (problems, n, M)
    u, v = torch.ones_like(kernel[:, 0]), torch.ones_like(kernel[:, :, 0])  # (problems, M), (problems, n)

    def step(kernel: Tensor, v: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The next u and v, and by which share v changes at most: (problems,)."""
        u = rows / torch.einsum("pnm,pn->pm", kernel, v)
        u = u if mass == 1 else u.clamp_max(1.0)
        new = columns / torch.einsum("pnm,pm->pn", kernel, u)
        return u, new, ((new - v).abs() / new).amax(-1)

    if torch.compiler.is_exporting():  # a graph has no loop that ends by itself: who has stopped keeps what it has
        going = u.new_ones(u.shape[:1], dtype=torch.bool)
        for _ in range(iterations):
            new_u, new_v, change = step(kernel, v)
            u, v = torch.where(going[:, None], new_u, u), torch.where(going[:, None], new_v, v)
            going = going & (change > threshold)
        return (u[:, None] * kernel * v[..., None]).view(shape).transpose(-1, -2)
    running = torch.arange(len(kernel), device=cost.device)  # the problems that have not stopped
    for _ in range(iterations):
        u[running], v[running], change = step(kernel[running], v[running])
        running = running[change > threshold]
        if not len(running):
            break
    return (u[:, None] * kernel * v[..., None]).view(shape).transpose(-1, -2)
