"""The baseline: pFedMoAP's training step as anyone would write it first.

Clients in turn; the images of a step go through the image tower in the step; every class is encoded at the tower's full
length (77 tokens) by open_clip's own text tower; the gate forms every image's and class's mixture of experts.
"""

import torch
import torch.nn.functional as F
from workload import CONTEXT_TOKENS, Step

from pfedmoap.clip import Clip


class PlainStep:
    """The same step as a `Step`, from the same start, experts and labels.

    Args:
        clip: in fp32.
        step: whose work is done again.
        pixels: (clients, B, 3, H, W).
    """

    def __init__(self, clip: Clip, step: Step, pixels: torch.Tensor):
        self.clip, self.step, self.pixels = clip, step, pixels
        text = " ".join(["x"] * CONTEXT_TOKENS)
        self.tokens = clip.tokenizer([f"{text} {name}." for name in step.names]).to(clip.device)  # (C, 77)
        self.embedded = clip.model.token_embedding(self.tokens)  # (C, 77, e)

    def __call__(self) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """Losses (clients,) and gradients, each (clients, ...)."""
        results = [self._client(row) for row in range(len(self.pixels))]
        losses, gradients = zip(*results, strict=True)
        return torch.stack(losses), {name: torch.stack([own[name] for own in gradients]) for name in gradients[0]}

    def _client(self, row: int) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        method, model = self.step.method, {name: part[row].clone().requires_grad_()
                                           for name, part in self.step.start.items()}
        with torch.no_grad():
            images = F.normalize(self.clip.model.visual(self.pixels[row]), dim=-1)  # (B, d)
        text = self.text_features(model["prompt"])  # (C, d)
        stride = text.shape[1] // method.d_gating
        experts = torch.cat([text[None, :, ::stride], self.step.fixed["experts"][row]])  # (J, C, g)
        similarity = gated_similarity(model, images[:, ::stride], experts, method.heads, method.attention_scale)
        logits = self.step.context.logit_scale * (similarity + method.lam * images @ text.T)  # (B, C)
        loss = F.cross_entropy(logits, self.step.labels[row])
        return loss.detach(), dict(zip(model, torch.autograd.grad(loss, list(model.values())), strict=True))

    def text_features(self, prompt: torch.Tensor) -> torch.Tensor:
        """(m, e) -> (C, d)."""
        model, classes = self.clip.model, len(self.tokens)
        context = prompt.expand(classes, -1, -1)
        x = torch.cat([self.embedded[:, :1], context, self.embedded[:, 1 + len(prompt) :]], dim=1)  # (C, 77, e)
        x = model.transformer(x + model.positional_embedding, attn_mask=model.attn_mask)
        x = model.ln_final(x)[torch.arange(classes), self.tokens.argmax(-1)]  # (C, e)
        return F.normalize(x @ model.text_projection, dim=-1)


def gated_similarity(
    gate: dict[str, torch.Tensor], queries: torch.Tensor, experts: torch.Tensor, heads: int, scale: float
) -> torch.Tensor:
    """<I, T_MoE> by equation 11 as it is printed: (B, g), (J, C, g) -> (B, C)."""

    def project(name: str, x: torch.Tensor) -> torch.Tensor:
        return F.linear(x, gate[f"gate.{name}.weight"], gate[f"gate.{name}.bias"])

    q = project("query", queries).unflatten(-1, (heads, -1))  # (B, h, g/h)
    k, v = (project(name, experts).unflatten(-1, (heads, -1)) for name in ("key", "value"))  # (J, C, h, g/h)
    weights = (scale * torch.einsum("bhw,jchw->bchj", q, k)).softmax(-1)  # (B, C, h, J)
    mixed = project("output", torch.einsum("bchj,jchw->bchw", weights, v).flatten(-2))  # (B, C, g)
    return torch.einsum("bg,bcg->bc", queries, mixed)
