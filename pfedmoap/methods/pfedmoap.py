"""pFedMoAP: a local prompt, the pool's K nearest prompts as fixed experts, a private gate (sections 3.2 and 3.3)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from pfedmoap.errors import UserError
from pfedmoap.gating import attend, cosine, dot_product, initial_gate, pool
from pfedmoap.methods.base import Context, Method
from pfedmoap.server import Server, Tensors


@dataclass(frozen=True)
class PFedMoAP(Method):
    """Shared: the prompt (averaged) and, through the pool, every client's own. Personal: the gate, never sent.

    Attributes:
        lam: lambda, the weight of the local prompt's logits (equation 10; 0.5).
        experts: K, the non-local experts per client (9); or one number per client, in client order.
        d_gating: width of the gate (128).
        heads: attention heads (8).
        attention_scale: factor on the attention scores (10 as released; None: (d_gating / heads) ** -0.5).
        moe_similarity: "dot" (as released) or "cosine" (the paper's example).
        pooling: "stride" (as released) or "average".
        gate_lr: the gate's learning rate (0.01).
        gate: False switches the gate off; prompts are then trained as PromptFL's.
    """

    name: ClassVar[str] = "pfedmoap"
    title: ClassVar[str] = "pFedMoAP"
    lam: float = 0.5
    experts: int | tuple[int, ...] = 9
    d_gating: int = 128
    heads: int = 8
    attention_scale: float | None = 10.0
    moe_similarity: str = "dot"
    pooling: str = "stride"
    gate_lr: float = 0.01
    gate: bool = True

    def __post_init__(self):
        if isinstance(self.experts, list):
            object.__setattr__(self, "experts", tuple(self.experts))
        counts = self.experts if isinstance(self.experts, tuple) else (self.experts,)
        checks = {
            "lam": (self.lam >= 0, "a number >= 0"),
            "experts": (all(isinstance(k, int) and k >= 0 for k in counts), "a whole number >= 0, or one per client"),
            "d_gating": (self.d_gating >= 1, "a whole number >= 1"),
            "heads": (self.heads >= 1 and self.d_gating % self.heads == 0, f"a divisor of d_gating ({self.d_gating})"),
            "attention_scale": (self.attention_scale is None or self.attention_scale > 0, "a number > 0, or None"),
            "moe_similarity": (self.moe_similarity in ("dot", "cosine"), "'dot' or 'cosine'"),
            "pooling": (self.pooling in ("stride", "average"), "'stride' or 'average'"),
            "gate_lr": (self.gate_lr >= 0, "a number >= 0"),
        }
        for name, (fine, wanted) in checks.items():
            if not fine:
                raise UserError(f"pfedmoap's {name} must be {wanted}, not {getattr(self, name)!r}.")

    # --- on the server

    def download(self, server: Server, client: int) -> Tensors:
        """The global prompt and, once the client is in the pool, its K nearest experts: (K, m, e)."""
        download = dict(server.shared)
        if self.gate and client in server.pool:
            count = self.experts[client] if isinstance(self.experts, tuple) else self.experts
            chosen = [server.pool[other] for other in server.pool.nearest(client, count)]
            download["experts"] = torch.stack(chosen) if chosen else download["prompt"].new_zeros(
                (0, *download["prompt"].shape))
        return download

    def aggregate(self, server: Server, uploads: Mapping[int, Tensors], sizes: Mapping[int, int]) -> None:
        super().aggregate(server, uploads, sizes)
        server.pool.replace({client: upload["prompt"] for client, upload in uploads.items()})

    # --- on one client

    def start(self, download: Tensors, personal: Tensors, client: int, context: Context) -> Tensors:
        """The global prompt; with experts (not at the first participation, footnote 1) also the client's own gate."""
        trained = {"prompt": download["prompt"]}
        if "experts" in download:
            trained |= _gate_of(personal) or initial_gate(self.d_gating, context.seed, client)
        return trained

    def tested(self, download: Tensors, personal: Tensors, client: int, context: Context) -> Tensors:
        """The client's own last prompt and its gate if that was ever trained; newcomers get the global prompt."""
        return {"prompt": personal.get("prompt", download["prompt"])} | _gate_of(personal)

    def upload(self, trained: Tensors) -> Tensors:
        return {"prompt": trained["prompt"]}

    def keep(self, trained: Tensors) -> Tensors:
        return trained

    # --- on a cohort

    def fixed(self, model: Tensors, downloads: Sequence[Tensors], context: Context) -> Tensors:
        """The experts' pooled text features (clients, K, C, g), encoded once, and which of them are no padding."""
        if not _gate_of(model):
            return {}
        counts = torch.tensor([len(download["experts"]) for download in downloads])  # (clients,)
        prompts = torch.cat([download["experts"] for download in downloads]).to(model["prompt"].device)
        present = torch.arange(int(counts.max())) < counts[:, None]  # (clients, K)
        experts = context.handwritten.new_zeros(*present.shape, len(context.handwritten), self.d_gating)
        if len(prompts):
            experts[present.to(experts.device)] = pool(context.text(prompts), self.d_gating, self.pooling)
        return {"experts": experts, "present": present.to(experts.device)}

    def logits(self, model: Tensors, fixed: Tensors, images: Tensor, context: Context) -> Tensor:
        """s sim(I, T_MoE) + lambda s sim(I, T_L) (equation 10); without a gate s sim(I, T_L)."""
        text = context.text(model["prompt"])  # (clients, C, d)
        local = context.logit_scale * images @ text.transpose(1, 2)  # (clients, B, C)
        if "experts" not in fixed:
            return local
        inputs = self.gate_inputs(fixed, images, text)
        if self.moe_similarity == "dot":
            match = dot_product(model, **inputs)  # (clients, B, C)
        else:
            match = cosine(inputs["queries"], attend(model, **inputs)[0])
        return context.logit_scale * match + self.lam * local

    def gate_inputs(self, fixed: Tensors, images: Tensor, text: Tensor) -> dict[str, Any]:
        """The arguments of `gating.attend` besides the gate; expert 0 is the local one."""
        local = pool(text, self.d_gating, self.pooling)[:, None]  # (clients, 1, C, g)
        return {
            "queries": pool(images, self.d_gating, self.pooling),  # (clients, B, g)
            "experts": torch.cat([local, fixed["experts"]], dim=1),  # (clients, 1+K, C, g)
            "present": F.pad(fixed["present"], (1, 0), value=True),  # (clients, 1+K)
            "heads": self.heads,
            "scale": self.attention_scale or (self.d_gating / self.heads) ** -0.5,
        }

    def learning_rate(self, name: str, lr: float) -> float:
        return self.gate_lr if name.startswith("gate.") else lr


def _gate_of(tensors: Tensors) -> Tensors:
    return {name: tensor for name, tensor in tensors.items() if name.startswith("gate.")}
