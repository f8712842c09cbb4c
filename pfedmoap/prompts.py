"""Learned prompts -> text features, exactly, with the prefix shared by all classes (SPEC 1).

A class reads `[SOS] p_1 .. p_m name . [EOT]`. Attention is causal, so `[SOS] p_1 .. p_m` has the same hidden states
for every class and what follows EOT never matters. Each prompt's prefix is encoded once, and each class adds only its
suffix (name, ".", EOT). All tokens of a prompt are packed in one row: linear layers see no padding, only attention
looks at the suffixes through a padded view, and the last block computes nothing but the EOT tokens.

Where the tower is held in bf16, its matrix products and its attention run in bf16; prompts, the residual stream, layer
norms and the projection stay in fp32, as rounding them would cost accuracy and buy no time.
"""

import hashlib
from collections import OrderedDict
from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from pfedmoap.clip import Clip
from pfedmoap.errors import UserError
from pfedmoap.randomness import generator

QUICK_GELU_SLOPE = 1.702


def initial_prompt(context_tokens: int, token_width: int, seed: int) -> Tensor:
    """The prompt that every client starts from: (m, e), drawn once from N(0, 0.02^2)."""
    draw = generator(seed, "prompt").standard_normal((context_tokens, token_width))
    return torch.from_numpy(draw).float() * 0.02


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


class PromptEncoder:
    """Text features of any number of prompts for one list of classes.

    Args:
        clip: the frozen CLIP.
        class_names: prompt-ready names, in label order.

    Raises:
        UserError: an empty name.
    """

    def __init__(self, clip: Clip, class_names: Sequence[str]):
        self.clip, self.class_names = clip, tuple(class_names)
        model, device = clip.model, clip.device
        suffixes = [_suffix_tokens(clip, name) for name in class_names]
        self._layout = Layout([len(suffix) for suffix in suffixes], device)
        tokens = torch.tensor([token for suffix in suffixes for token in suffix], device=device)
        self._suffix = model.token_embedding(tokens).detach().float()  # (S, e)
        start_of_text = torch.tensor([clip.tokenizer.sot_token_id], device=device)
        self._start = model.token_embedding(start_of_text).detach().float()  # (1, e)
        self._blocks = [_block_weights(block, clip.quick_gelu) for block in model.transformer.resblocks]
        self._heads = model.transformer.resblocks[0].attn.num_heads
        self._activation = F.silu if clip.quick_gelu else F.gelu
        self._final_norm = _norm_weights(model.ln_final)

    def __call__(self, prompts: Tensor) -> Tensor:
        """Normalised text features t_c(p), differentiable with respect to the prompts.

        Args:
            prompts: (P, m, e), fp32.

        Returns:
            (P, C, d), fp32.

        Raises:
            UserError: a class name that does not fit behind m context tokens.
        """
        self.check_length(prompts.shape[1])
        head, tail = self._embed(prompts)  # (P, n, e) with n = 1+m, (1, S, e)
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
        model = self.clip.model
        features = _norm(x, self._final_norm) @ model.text_projection.float()
        return F.normalize(features, dim=-1)

    @torch.no_grad()
    def handwritten(self, words: str = "a photo of a") -> Tensor:
        """Features of the sentences "{words} {name}.", (C, d): a prompt whose context tokens are words.

        Many times cheaper than `Clip.encode_texts`, which spends a full row of tokens on every class.
        """
        tokens = torch.tensor(word_tokens(self.clip, words), device=self.clip.device)  # (m,)
        return self(self.clip.model.token_embedding(tokens).float()[None])[0]

    def bytes_per_prompt(self, context_tokens: int = 16) -> int:
        """A generous estimate of the memory that one prompt takes in a training step."""
        classes, longest = len(self.class_names), self._layout.longest
        prefix, packed = 1 + context_tokens, len(self._layout.pack)
        rows = 10 * (prefix + packed) + 2 * classes * (prefix + 2 * longest)  # of width e, kept per block for backward
        return 2 * len(self._blocks) * rows * self._suffix.shape[1] * self._suffix.element_size()

    def check_length(self, context_tokens: int) -> None:
        room = self.clip.model.context_length - 1 - context_tokens
        if self._layout.longest > room:
            name = max(self.class_names, key=lambda name: len(_suffix_tokens(self.clip, name)))
            raise UserError(f"The class name {name!r} needs {self._layout.longest} tokens with '.' and EOT, but "
                            f"{self.clip.name} has room for {room} behind {context_tokens} context tokens: shorten the "
                            f"name or use fewer context tokens.")

    def _embed(self, prompts: Tensor) -> tuple[Tensor, Tensor]:
        """Prefixes (P, n, e), and the suffixes of all classes, (1, S, e)."""
        positions, prefix = self.clip.model.positional_embedding.float(), prompts.shape[1] + 1
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
        classes, (head_k, head_v) = len(self.class_names), head
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
        return _norm(x, affine).to(self.clip.dtype)


class TextFeatures:
    """Text features with a memory: prompts that need no gradient are encoded once per distinct content.

    The pool's prompts are lent to many clients and tested again after the round; each is encoded once (SPEC 3), and
    alone: some matrix products round otherwise in a larger batch, and then a run that goes on after a kill, which
    meets its prompts in other company, would differ in the last bits.

    Args:
        encoder: encodes what is new.
        memory_bytes: bound on the remembered features; the least recently used go first.
    """

    def __init__(self, encoder: PromptEncoder, memory_bytes: int = 2**30):
        self.encoder, self.memory_bytes = encoder, memory_bytes
        self._memory: OrderedDict[bytes, Tensor] = OrderedDict()
        self._held = 0  # bytes

    def __call__(self, prompts: Tensor) -> Tensor:
        """(..., m, e) -> (..., C, d), normalised; differentiable if the prompts require a gradient."""
        flat = prompts.flatten(0, -3)  # (P, m, e)
        features = self.encoder(flat) if flat.requires_grad else self._remembered(flat)
        return features.unflatten(0, prompts.shape[:-2])

    def _remembered(self, prompts: Tensor) -> Tensor:
        keys = [hashlib.blake2b(row.tobytes(), digest_size=16).digest() for row in prompts.cpu().numpy()]
        found = {key: self._memory[key] for key in keys if key in self._memory}
        with torch.no_grad():
            for index, key in enumerate(keys):
                if key not in found:
                    found[key] = self.encoder(prompts[index : index + 1])[0]
        for key, features in found.items():
            self._held += 0 if key in self._memory else features.nbytes
            self._memory[key] = features
            self._memory.move_to_end(key)
        while self._held > self.memory_bytes:
            self._held -= self._memory.popitem(last=False)[1].nbytes
        return torch.stack([found[key] for key in keys])


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


def _suffix_tokens(clip: Clip, name: str) -> list[int]:
    """Tokens of "name . [EOT]", however long."""
    if not name.strip():
        raise UserError("A class has an empty name; every class needs a name that its prompt can end with.")
    return [*word_tokens(clip, f"{name}."), clip.tokenizer.eot_token_id]


def word_tokens(clip: Clip, text: str) -> list[int]:
    """Tokens of a text, without those that mark its start and end."""
    start, end = clip.tokenizer.sot_token_id, clip.tokenizer.eot_token_id
    tokens = clip.tokenizer([text], context_length=8 + 4 * len(text))[0].tolist()
    return tokens[tokens.index(start) + 1 : tokens.index(end)]


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
