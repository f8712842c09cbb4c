"""The fast path of CLIP's own text tower: the prefix is shared by all classes, exactly (SPEC 1).

A class reads `[SOS] p_1 .. p_m name . [EOT]`. Attention is causal, so `[SOS] p_1 .. p_m` has the same hidden states
for every class and what follows EOT never matters. Each prompt's prefix is encoded once, and each class adds only its
suffix (name, ".", EOT). All tokens of a prompt are packed in one row: linear layers see no padding, only attention
looks at the suffixes through a padded view, and the last block computes nothing but the EOT tokens.

Where the tower is held in bf16, its matrix products and its attention run in bf16; prompts, the residual stream, layer
norms and the projection stay in fp32, as rounding them would cost accuracy and buy no time.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from pfedmoap.clip import Clip

QUICK_GELU_SLOPE = 1.702
FOLLOWED = {"context_length", "vocab_size", "width", "heads", "layers", "mlp_ratio", "pool_type", "eos_id", "pad_id",
            "hf_tokenizer_name", "tokenizer_kwargs"}  # what text_cfg may set
OBSTACLES = {
    "hf_model_name": "the transformers package computes its text tower",
    "no_causal_mask": "its attention is not causal, so that a prompt's states depend on the class",
    "embed_cls": "it pools a class token behind the padding, whose mask depends on the sentence's length",
}


def obstacle(config: dict[str, Any]) -> str | None:
    """Why the shared prefix is not exact for a model, by open_clip's configuration of it alone; None: it is."""
    text = config["text_cfg"]
    for setting, reason in OBSTACLES.items():
        if text.get(setting):
            return reason
    pooled = text.get("pool_type", "argmax")
    if pooled != ("eos" if "hf_tokenizer_name" in text else "argmax"):
        return f"it pools by {pooled!r}, which need not be the end of the sentence"
    other = sorted(setting for setting in text.keys() - FOLLOWED if text[setting])
    return f"its text tower sets {', '.join(other)}" if other else None


class Block(NamedTuple):
    """One transformer block's weights; QuickGELU's slope is folded into the MLP so that SiLU computes it."""

    norm1: tuple[Tensor, Tensor]
    qkv: tuple[Tensor, Tensor]
    out: tuple[Tensor, Tensor]
    norm2: tuple[Tensor, Tensor]
    up: tuple[Tensor, Tensor]
    down: tuple[Tensor, Tensor]


class Layout:
    """Where the suffix tokens of all classes stand in the packed row and in the padded view.

    Attributes:
        longest: L, the length of the longest suffix.
        pad: (C*L,) packed index of every padded slot; padding slots name token 0.
        empty: the padding slots.
        pack: (S,) padded index of every packed token.
        offsets: (S,) position of every packed token within its suffix.
        eot, eot_slot: (C,) packed index of each class's EOT, and its place in the padded view.
    """

    def __init__(self, lengths: Sequence[int], device: torch.device):
        sizes = torch.tensor(lengths)  # (C,)
        self.longest = int(sizes.max())
        slots = torch.arange(self.longest)
        real = slots < sizes[:, None]  # (C, L)
        starts = sizes.cumsum(0) - sizes
        self.pad = (starts[:, None] + slots).where(real, 0).flatten().to(device)
        self.empty = (~real).flatten().nonzero().flatten().to(device)
        self.pack = real.flatten().nonzero().flatten().to(device)
        self.offsets = slots.expand_as(real)[real].to(device)
        self.eot, self.eot_slot = (starts + sizes - 1).to(device), (sizes - 1).to(device)

    def gather_padded(self, packed: Tensor) -> Tensor:
        """(P, S, w) -> (P, C*L, w), zero where there is no token."""
        return packed.index_select(1, self.pad).index_fill_(1, self.empty, 0)


class SharedPrefix:
    """Text features of any number of prompts for one list of classes.

    Args:
        clip: a frozen CLIP without an `obstacle`.
        suffixes: the tokens behind the prompt, one list per class, of which the last is pooled (EOT).
    """

    generosity = 3  # of `bytes_per_prompt`: 300 names of ImageNet at RN50's text tower keep 542 MiB, not 1,603

    def __init__(self, clip: Clip, suffixes: Sequence[Sequence[int]]):
        tower, device = clip.text_tower, clip.device
        self._dtype, self._classes = clip.dtype, len(suffixes)
        self._layout = Layout([len(suffix) for suffix in suffixes], device)
        tokens = torch.tensor([token for suffix in suffixes for token in suffix], device=device)
        self._suffix = tower.token_embedding(tokens).detach().float()  # (S, e)
        start = torch.tensor(clip.marks.start, dtype=torch.long, device=device)
        self._start = tower.token_embedding(start).detach().float()  # (s, e), mostly of [SOS] alone
        self._blocks = [_block_weights(block, clip.quick_gelu) for block in tower.transformer.resblocks]
        self._heads = tower.transformer.resblocks[0].attn.num_heads
        self._activation = F.silu if clip.quick_gelu else F.gelu
        self._tower, self._final_norm = tower, _norm_weights(tower.ln_final)

    def __call__(self, prompts: Tensor) -> Tensor:
        """(P, m, e), fp32 -> (P, C, d), fp32, not normalised; differentiable with respect to the prompts."""
        head, tail = self._embed(prompts)  # (P, n, e) with n = s+m, (1, S, e)
        x = torch.cat([head, tail.expand(len(prompts), -1, -1)], dim=1)  # (P, n+S, e)
        prefix = head.shape[1]
        slots = torch.arange(self._layout.longest, device=x.device)
        visible = slots[:, None] >= slots  # (L, L) a suffix token sees its class's past; padding is never an output
        for number, block in enumerate(self._blocks[:-1]):
            if number == 0 and len(prompts) > 1:  # no suffix has seen a prompt yet: one row serves all, and is fixed
                head, tail = self._qkv(head, block), self._qkv(tail, block)
            else:
                head, tail = self._qkv(x, block).split([prefix, x.shape[1] - prefix], dim=1)
            x = x + self._attention(head, tail, block, visible)
            x = x + self._mlp(x, block)
        x = x[:, prefix + self._layout.eot] + self._eot_attention(x, self._blocks[-1], prefix, visible)  # (P, C, e)
        x = x + self._mlp(x, self._blocks[-1])
        return _norm(x, self._final_norm) @ self._tower.text_projection.float()

    def bytes_per_prompt(self, context_tokens: int) -> int:
        """A generous estimate of the memory that one prompt takes in a training step."""
        classes, longest = self._classes, self._layout.longest
        prefix, packed = len(self._start) + context_tokens, len(self._layout.pack)
        rows = 10 * (prefix + packed) + 2 * classes * (prefix + 2 * longest)  # of width e, kept per block for backward
        return 2 * len(self._blocks) * rows * self._suffix.shape[1] * self._suffix.element_size()

    def _embed(self, prompts: Tensor) -> tuple[Tensor, Tensor]:
        """Prefixes (P, n, e), and the suffixes of all classes, (1, S, e)."""
        positions, prefix = self._tower.positional_embedding.float(), len(self._start) + prompts.shape[1]
        head = torch.cat([self._start.expand(len(prompts), -1, -1), prompts], dim=1) + positions[:prefix]
        return head, (self._suffix + positions[prefix + self._layout.offsets])[None]

    def _qkv(self, x: Tensor, block: Block) -> Tensor:
        return F.linear(self._normed(x, block.norm1), *block.qkv)  # (P, T, 3e)

    def _attention(self, head: Tensor, tail: Tensor, block: Block, visible: Tensor) -> Tensor:
        """Of queries, keys and values of prefixes (P, n, 3e) and suffixes (P or 1, S, 3e): (P, n+S, e)."""
        head_q, head_k, head_v = self._split(head)  # (P, h, n, e/h)
        head_out = F.scaled_dot_product_attention(head_q, head_k, head_v, is_causal=True)
        q, k, v = self._split(_Pad.apply(tail, self._layout))  # (P, h, C*L, e/h)
        tail_out = self._attend(q, (head_k, head_v), (k, v), visible)  # (P, h, C*L, e/h)
        tail_out = _Pack.apply(tail_out.transpose(1, 2).flatten(2), self._layout)  # (P, S, e)
        joined = torch.cat([head_out.transpose(1, 2).flatten(2), tail_out], dim=1)  # (P, n+S, e)
        return F.linear(joined, *block.out)

    def _eot_attention(self, x: Tensor, block: Block, prefix: int, visible: Tensor) -> Tensor:
        """The same, for the EOT queries only: (P, n+S, e) -> (P, C, e)."""
        width, normed = x.shape[-1], self._normed(x, block.norm1)
        weight, bias = block.qkv
        (q,) = self._split(F.linear(normed[:, prefix + self._layout.eot], weight[:width], bias[:width]), 1)
        kv = F.linear(normed, weight[width:], bias[width:])  # (P, n+S, 2e)
        head, tail = kv.split([prefix, kv.shape[1] - prefix], dim=1)
        suffixes = self._split(_Pad.apply(tail, self._layout), 2)  # two of (P, h, C*L, e/h)
        out = self._attend(q, self._split(head, 2), suffixes, visible[self._layout.eot_slot][:, None])  # (P, h, C, e/h)
        return F.linear(out.transpose(1, 2).flatten(2), *block.out)

    def _attend(
        self, q: Tensor, head: tuple[Tensor, ...], suffixes: tuple[Tensor, ...], visible: Tensor
    ) -> Tensor:
        """Every class's queries over the shared prefix and over the class's own suffix: (P, h, C*Q, e/h), Q per class.

        Written out, since the prefix's keys serve all classes in one product, and the suffixes are very short.

        Args:
            head: keys and values of the prefix, (P, h, n, e/h).
            suffixes: keys and values of the suffixes in the padded view, (P, h, C*L, e/h).
            visible: (Q, L) or (C, Q, L), which slots a query sees.
        """
        classes, (head_k, head_v) = self._classes, head
        own_k, own_v = (tensor.unflatten(2, (classes, -1)) for tensor in suffixes)  # (P, h, C, L, e/h)
        q = q * q.shape[-1] ** -0.5
        to_head = q @ head_k.mT  # (P, h, C*Q, n)
        to_own = q.unflatten(2, (classes, -1)) @ own_k.mT  # (P, h, C, Q, L)
        hidden = torch.where(visible, 0.0, float("-inf")).to(to_own)  # added, as its gradient then costs nothing
        to_own = (to_own + hidden).flatten(2, 3)  # (P, h, C*Q, L)
        weights = torch.cat([to_head, to_own.expand(len(to_head), -1, -1, -1)], dim=-1).softmax(-1)
        head_weights, own_weights = weights.split([head_k.shape[2], own_k.shape[3]], dim=-1)
        from_own = own_weights.unflatten(2, (classes, -1)) @ own_v  # (P, h, C, Q, e/h)
        return head_weights @ head_v + from_own.flatten(2, 3)

    def _split(self, x: Tensor, parts: int = 3) -> tuple[Tensor, ...]:
        """(P, T, parts*e) -> parts tensors (P, h, T, e/h)."""
        return x.unflatten(-1, (parts, self._heads, -1)).permute(2, 0, 3, 1, 4).contiguous().unbind(0)

    def _mlp(self, x: Tensor, block: Block) -> Tensor:
        hidden = F.linear(self._normed(x, block.norm2), *block.up)  # (P, n+S, 4e)
        return F.linear(self._activation(hidden), *block.down)

    def _normed(self, x: Tensor, affine: tuple[Tensor, Tensor]) -> Tensor:
        """A block's layer norm, in the tower's precision: what its matrix products read."""
        return _norm(x, affine).to(self._dtype)


class _Pad(torch.autograd.Function):
    """Packed tokens -> padded view; the gradient is the gather back, far cheaper than autograd's scatter-add."""

    @staticmethod
    def forward(ctx, packed: Tensor, layout: Layout) -> Tensor:
        ctx.layout = layout
        return layout.gather_padded(packed)

    @staticmethod
    def backward(ctx, grad: Tensor):
        return grad.index_select(1, ctx.layout.pack), None


class _Pack(torch.autograd.Function):
    """Padded view -> packed tokens; padding slots get no gradient."""

    @staticmethod
    def forward(ctx, padded: Tensor, layout: Layout) -> Tensor:
        ctx.layout = layout
        return padded.index_select(1, layout.pack)

    @staticmethod
    def backward(ctx, grad: Tensor):
        return ctx.layout.gather_padded(grad), None


def _norm(x: Tensor, affine: tuple[Tensor, Tensor]) -> Tensor:
    return F.layer_norm(x, x.shape[-1:], *affine)


def _norm_weights(norm) -> tuple[Tensor, Tensor]:
    return norm.weight.float(), norm.bias.float()


def _block_weights(block, quick_gelu: bool) -> Block:
    attention, mlp = block.attn, block.mlp
    slope = QUICK_GELU_SLOPE if quick_gelu else 1.0
    return Block(
        norm1=_norm_weights(block.ln_1),
        qkv=(attention.in_proj_weight, attention.in_proj_bias),
        out=(attention.out_proj.weight, attention.out_proj.bias),
        norm2=_norm_weights(block.ln_2),
        up=(mlp.c_fc.weight * slope, mlp.c_fc.bias * slope),
        down=(mlp.c_proj.weight / slope, mlp.c_proj.bias),
    )
