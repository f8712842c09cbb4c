"""pFedMoAP: a local prompt, the pool's K nearest prompts as fixed experts, a private gate (sections 3.2 and 3.3)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from pfedmoap import gating
from pfedmoap.errors import UserError, require
from pfedmoap.method import Common, Context, Method
from pfedmoap.randomness import generator
from pfedmoap.server import Server, Tensors


@dataclass(frozen=True)
class PFedMoAP(Method):
    """Shared: the prompt (averaged) and, through the pool, every client's own. Personal: the gate, never sent.

    Attributes:
        lam: lambda, the weight of the local prompt's logits (equation 10; 0.5).
        experts: K, the non-local experts per client (9); or one number per client, in client order.
        expert_choice: "nearest" in the pool, "random" from the pool, or "global": the averaged prompt is the only
            non-local expert (Table 6, "with aggregation"; this reading is an assumption).
        gate: "attention" (equation 11), "linear" (Table 6's projection, order-dependent and of fixed size), or "none":
            prompts are then trained as PromptFL's, and tested personally.
        d_gating: width of the attention gate (128).
        heads: attention heads (8).
        attention_scale: factor on the attention scores (10 as released; None: (d_gating / heads) ** -0.5).
        moe_similarity: of the attention gate: "dot" (as released) or "cosine" (the paper's example).
        pooling: of the attention gate: "stride" (as released) or "average".
        gate_lr: the gate's learning rate (0.01).
        train_prompt: False freezes the prompt, as a control: the gate alone learns.
    """

    name: ClassVar[str] = "pfedmoap"
    title: ClassVar[str] = "pFedMoAP"
    lam: float = 0.5
    experts: int | tuple[int, ...] = 9
    expert_choice: str = "nearest"
    gate: str = "attention"
    d_gating: int = 128
    heads: int = 8
    attention_scale: float | None = 10.0
    moe_similarity: str = "dot"
    pooling: str = "stride"
    gate_lr: float = 0.01
    train_prompt: bool = True

    def __post_init__(self):
        if isinstance(self.experts, list):
            object.__setattr__(self, "experts", tuple(self.experts))
        counts = self.experts if isinstance(self.experts, tuple) else (self.experts,)
        require(self, {
            "lam": (self.lam >= 0, "a number >= 0"),
            "experts": (all(isinstance(k, int) and k >= 0 for k in counts), "a whole number >= 0, or one per client"),
            "expert_choice": (self.expert_choice in ("nearest", "random", "global"), "'nearest', 'random' or 'global'"),
            "gate": (self.gate in ("attention", "linear", "none"), "'attention', 'linear' or 'none'"),
            "d_gating": (self.d_gating >= 1, "a whole number >= 1"),
            "heads": (self.heads >= 1 and self.d_gating % self.heads == 0, f"a divisor of d_gating ({self.d_gating})"),
            "attention_scale": (self.attention_scale is None or self.attention_scale > 0, "a number > 0, or None"),
            "moe_similarity": (self.moe_similarity in ("dot", "cosine"), "'dot' or 'cosine'"),
            "pooling": (self.pooling in ("stride", "average"), "'stride' or 'average'"),
            "gate_lr": (self.gate_lr >= 0, "a number >= 0"),
        }, "pfedmoap's ")

    def check(self, features: int, tokens: int) -> None:
        if self.gate == "attention" and features % self.d_gating:
            raise UserError(f"d_gating {self.d_gating} does not divide the CLIP's feature width {features}.")

    # --- on the server

    def download(self, server: Server, client: int) -> Tensors:
        """The global prompt and, once the client is in the pool, its experts in order of distance: (K, m, e)."""
        download = dict(server.shared)
        if self.gate != "none" and client in server.pool:
            chosen = [server.pool[other] for other in self._choose(server, client)]
            nobody = download["prompt"].new_zeros(0, *download["prompt"].shape)
            download["experts"] = torch.stack(chosen) if chosen else nobody
        return download

    def _choose(self, server: Server, client: int) -> list[int]:
        count = self.experts[client] if isinstance(self.experts, tuple) else self.experts
        match self.expert_choice:
            case "nearest":
                return server.pool.nearest(client, count)
            case "random":
                others = [other for other in server.pool.entries if other != client]
                return generator(server.seed, "experts", server.round, client).permutation(others)[:count].tolist()
            case _:  # the global prompt, which travels anyway
                return []

    def enter(self, server: Server, uploads: Mapping[int, Tensors]) -> None:
        server.pool.replace({client: upload["prompt"] for client, upload in uploads.items()})

    # --- on one client

    def start(self, download: Tensors, personal: Tensors, client: int, context: Context) -> Tensors:
        """The global prompt; with experts (not at the first participation, footnote 1) also the client's own gate."""
        trained = {"prompt": download["prompt"]}
        if "experts" in download:
            trained |= gating.gate_of(personal) or self._initial_gate(client, context)
        return trained

    def _initial_gate(self, client: int, context: Context) -> Tensors:
        if self.gate == "linear":
            return gating.initial_linear_gate(context.handwritten.shape[1], 1 + self._slots, context.seed, client)
        return gating.initial_gate(self.d_gating, context.seed, client)

    def tested(self, download: Tensors, personal: Tensors, client: int, context: Context) -> Tensors:
        """The client's own last prompt and its gate if that was ever trained; newcomers get the global prompt."""
        return {"prompt": personal.get("prompt", download["prompt"])} | gating.gate_of(personal)

    def upload(self, trained: Tensors) -> Tensors:
        return {"prompt": trained["prompt"]}

    def keep(self, trained: Tensors) -> Tensors:
        return trained

    # --- on a cohort

    def fixed(self, model: Tensors, downloads: Sequence[Tensors], context: Context, cached=None) -> Tensors:
        """The experts' text features (clients, K, C, g or d), encoded once, and which of them are no padding."""
        if not gating.gate_of(model):
            return {}
        lent = [download["experts"] for download in downloads]
        if self.expert_choice == "global":
            lent = [download["prompt"][None] for download in downloads]
        counts = torch.tensor([len(experts) for experts in lent])  # (clients,)
        slots = self._slots if self.gate == "linear" else int(counts.max())
        prompts = torch.cat(lent).to(model["prompt"].device)
        present = (torch.arange(slots) < counts[:, None]).to(prompts.device)  # (clients, K)
        features = context.text(prompts) if len(prompts) else context.handwritten[None][:0]  # (sum of K, C, d)
        if self.gate == "attention":
            features = gating.pool(features, self.d_gating, self.pooling)
        experts = features.new_zeros(*present.shape, *features.shape[1:])
        experts[present] = features
        return {"experts": experts, "present": present}

    @property
    def _slots(self) -> int:
        """Non-local experts that a gate of fixed size has room for."""
        if self.expert_choice == "global":
            return 1
        return max(self.experts) if isinstance(self.experts, tuple) else self.experts

    def logits(self, model: Tensors, fixed: Tensors, images: Tensor, context: Common) -> Tensor:
        """s sim(I, T_MoE) + lambda s sim(I, T_L) (equation 10); without a gate s sim(I, T_L)."""
        return self._mix(model, fixed, images, context)[0]

    def examine(
        self, model: Tensors, fixed: Tensors, images: Tensor, context: Common
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The logits, and how evenly the attention looks at the experts: its entropy, 1 when all 1 + K weigh the same.

        Returns:
            Besides the logits {"attention_entropy": (clients, B)}, the mean over classes and heads; nothing for clients
            without experts.
        """
        logits, weights = self._mix(model, fixed, images, context)
        if weights is None or not fixed["present"].any(1).all():
            return logits, {}
        entropy = torch.special.entr(weights).sum(-1).mean((2, 3))  # (clients, B)
        return logits, {"attention_entropy": entropy / (1 + fixed["present"].sum(1, keepdim=True)).log()}

    def _mix(
        self, model: Tensors, fixed: Tensors, images: Tensor, context: Common
    ) -> tuple[Tensor, Tensor | None]:
        """The logits (clients, B, C), and the weights of the attention gate (clients, B, C, heads, 1+K)."""
        text = context.text(model["prompt"])  # (clients, C, d)
        local = context.logit_scale * images @ text.transpose(1, 2)  # (clients, B, C)
        if "experts" not in fixed:
            return local, None
        if self.gate == "linear":
            experts, present = _with_local(text, fixed)
            match, weights = gating.linear_match(model, images, experts, present), None
        else:
            inputs = self.gate_inputs(fixed, images, text)
            if self.moe_similarity == "dot":
                match, weights = gating.dot_product(model, **inputs)
            else:
                enhanced, weights = gating.attend(model, **inputs)
                match = gating.cosine(inputs["queries"], enhanced)
        return context.logit_scale * match + self.lam * local, weights

    def gate_inputs(self, fixed: Tensors, images: Tensor, text: Tensor) -> dict[str, Any]:
        """The arguments of `gating.attend` besides the gate; expert 0 is the local one."""
        experts, present = _with_local(gating.pool(text, self.d_gating, self.pooling), fixed)
        return {
            "queries": gating.pool(images, self.d_gating, self.pooling),  # (clients, B, g)
            "experts": experts,
            "present": present,
            "heads": self.heads,
            "scale": self.attention_scale or (self.d_gating / self.heads) ** -0.5,
            "trained": 1,
        }

    def learning_rate(self, name: str, lr: float) -> float:
        if name.startswith("gate."):
            return self.gate_lr
        return lr if self.train_prompt else 0.0


def _with_local(text: Tensor, fixed: Tensors) -> tuple[Tensor, Tensor]:
    """The local expert before the non-local ones: (clients, 1+K, C, g or d), and which are present, (clients, 1+K)."""
    return torch.cat([text[:, None], fixed["experts"]], dim=1), F.pad(fixed["present"], (1, 0), value=True)
