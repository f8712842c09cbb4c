"""Learned prompts -> text features, for every text tower of open_clip.

The m vectors of a prompt stand where the embeddings of m words would, behind the tokens that start a sentence, as in
CoOp; the class name and a full stop follow, then what the model's own tokenizer and tower put there:

    CLIP, EVA02, ViTamin, PE   [SOS] p_1 .. p_m name . [EOT] 0 ..      causal, pooled at EOT; so MobileCLIP's B models
    MobileCLIP                 the same                                not causal: a token sees all, also padding
    MetaCLIP worldwide         <s> p_1 .. p_m name . </s> <pad> ..     causal, pooled at </s>; of mT5's tokens no <s>
    SigLIP, SigLIP2            p_1 .. p_m name </s> <pad> ..           not causal, pooled at the last position
    CLIPA                      [CLS] p_1 .. p_m name . [PAD] ..        not causal, pooled at the last position
    CoCa                       [SOS] p_1 .. p_m name . [EOT] 0 .. cls  causal, pooled at the class token
    RoBERTa, XLM-R             <s> p_1 .. p_m name . </s> <pad> ..     not causal, pooled by the mean but for padding
    mT5                        p_1 .. p_m name . </s> <pad> ..         the same
    NLLB                       language p_1 .. p_m name . </s> <pad>   not causal, pooled at the language

Where it is exact, `shared_prefix` encodes what classes have in common once; elsewhere `PlainTower` is open_clip's own
encoder. Classes whose training step would not fit in memory are encoded in chunks, which backward computes again.
"""

import hashlib
import math
from collections import OrderedDict
from collections.abc import Sequence
from functools import cached_property

import open_clip
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks
from torch.utils.checkpoint import checkpoint

from pfedmoap.clip import Clip
from pfedmoap.errors import UserError
from pfedmoap.randomness import generator
from pfedmoap.shared_prefix import SharedPrefix, obstacle

PLACEHOLDER = "x"  # a word whose tokens stand where the prompt comes


def initial_prompt(context_tokens: int, token_width: int, seed: int) -> Tensor:
    """The prompt that every client starts from: (m, e), drawn once from N(0, 0.02^2)."""
    draw = generator(seed, "prompt").standard_normal((context_tokens, token_width))
    return torch.from_numpy(draw).float() * 0.02


class PlainTower:
    """The model's own `encode_text` over whole sentences, whose placeholders' embeddings the prompts replace.

    Args:
        clip: any frozen CLIP.
        suffixes: the tokens behind the prompt, one list per class.
    """

    generosity = 1

    def __init__(self, clip: Clip, suffixes: Sequence[Sequence[int]]):
        self._clip, self._suffixes = clip, suffixes

    def __call__(self, prompts: Tensor) -> Tensor:
        """(P, m, e), fp32 -> (P, C, d), fp32, not normalised; differentiable with respect to the prompts."""
        count, m = prompts.shape[:2]
        start, classes = len(self._clip.marks.start), len(self._suffixes)
        tokens = self._sentences(m).repeat(count, 1)  # (P*C, T)

        def put_in(module, inputs, embedded: Tensor) -> Tensor:
            context = prompts.repeat_interleave(classes, dim=0).to(embedded.dtype)  # (P*C, m, e)
            return torch.cat([embedded[:, :start], context, embedded[:, start + m :]], dim=1)

        hook = self._clip.token_embedding.register_forward_hook(put_in)
        try:
            return self._clip.model.encode_text(tokens).float().unflatten(0, (count, classes))
        finally:
            hook.remove()

    def bytes_per_prompt(self, context_tokens: int) -> int:
        """The memory that one prompt takes in a training step: what autograd keeps of one class, but for the weights.

        It does not depend on the number of context tokens, since every sentence is padded to the same length.
        """
        model, kept = self._clip.model, {}
        weights = {tensor.untyped_storage().data_ptr() for tensor in (*model.parameters(), *model.buffers())}

        def keep(tensor: Tensor) -> Tensor:
            kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        prompt = torch.zeros(1, 1, self._clip.token_width, device=self._clip.device, requires_grad=True)
        with torch.enable_grad(), saved_tensors_hooks(keep, lambda tensor: tensor):
            features = PlainTower(self._clip, self._suffixes[:1])(prompt)  # held, as storages are told apart by address
        del features
        return len(self._suffixes) * sum(size for storage, size in kept.items() if storage not in weights)

    def _sentences(self, m: int) -> Tensor:
        """What the tokenizer makes of m placeholders and a name: (C, T)."""
        start, end, padding = self._clip.marks
        placeholder = word_tokens(self._clip, PLACEHOLDER)[:1]
        rows = [[*start, *placeholder * m, *suffix] for suffix in self._suffixes]
        rows = [row + [padding] * (self._clip.context_length - len(row)) for row in rows]
        return torch.tensor(rows, device=self._clip.device)


class PromptEncoder:
    """Text features of any number of prompts for one list of classes.

    Args:
        clip: the frozen CLIP.
        class_names: prompt-ready names, in label order.
        memory_bytes: bound on the memory of one prompt's training step. Classes that would need more are encoded in
            chunks, of which backward holds one at a time: the same features and gradients but for rounding.

    Raises:
        UserError: an empty name.
    """

    def __init__(self, clip: Clip, class_names: Sequence[str], memory_bytes: int = 2 * 2**30):
        self.clip, self.class_names = clip, tuple(class_names)
        self._suffixes = suffixes(clip, class_names)
        self._memory_bytes = memory_bytes

    @cached_property
    def _chunks(self) -> Sequence[SharedPrefix | PlainTower]:
        """Encoders of all classes at once or, where memory does not allow that, of equally many at a time."""
        tower = PlainTower if obstacle(open_clip.get_model_config(self.clip.name)) else SharedPrefix
        whole, classes = tower(self.clip, self._suffixes), len(self._suffixes)
        chunks = min(classes, math.ceil(whole.bytes_per_prompt(16) / whole.generosity / self._memory_bytes))
        if chunks == 1:
            return [whole]
        size = math.ceil(classes / chunks)
        return [tower(self.clip, self._suffixes[first : first + size]) for first in range(0, classes, size)]

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
        if len(self._chunks) == 1:
            return F.normalize(self._chunks[0](prompts), dim=-1)
        parts = [checkpoint(chunk, prompts, use_reentrant=False, preserve_rng_state=False) for chunk in self._chunks]
        return F.normalize(torch.cat(parts, dim=1), dim=-1)

    @torch.no_grad()
    def handwritten(self, words: str = "a photo of a") -> Tensor:
        """Features of the sentences "{words} {name}.", (C, d): a prompt whose context tokens are words.

        With the shared prefix many times cheaper than `Clip.encode_texts`, which spends a full row of tokens on every
        class.
        """
        tokens = torch.tensor(word_tokens(self.clip, words), device=self.clip.device)  # (m,)
        return self(self.clip.token_embedding(tokens).float()[None])[0]

    def bytes_per_prompt(self, context_tokens: int = 16) -> int:
        """An estimate of the memory that one prompt takes in a training step, of the chunk that takes most.

        It is generous where the prefix is shared: ImageNet's 1,000 names at RN50's text tower are estimated at 5.0 GiB,
        and a step of pFedMoAP (batch 16, one client, 9 experts) was measured to take 1.8.
        """
        return max(chunk.bytes_per_prompt(context_tokens) for chunk in self._chunks)

    def check_length(self, context_tokens: int) -> None:
        longest = max(map(len, self._suffixes))
        room = self.clip.context_length - len(self.clip.marks.start) - context_tokens
        if longest > room:
            name = next(name for name, suffix in zip(self.class_names, self._suffixes, strict=True)
                        if len(suffix) == longest)
            raise UserError(f"The class name {name!r} needs {longest} tokens with '.' and EOT, but "
                            f"{self.clip.name} has room for {room} behind {context_tokens} context tokens: shorten the "
                            f"name or use fewer context tokens.")


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


def text_path(model: str) -> str:
    """How prompts of an open_clip model are encoded, and why, in words."""
    reason = obstacle(open_clip.get_model_config(model))
    return f"open_clip's own encoder: {reason}" if reason else "shared prefix: causal, and pooled where sentences end"


def suffixes(clip: Clip, class_names: Sequence[str]) -> list[list[int]]:
    """Tokens of "name . [EOT]" behind a prompt, however long; one list per class."""
    if not all(name.strip() for name in class_names):
        raise UserError("A class has an empty name; every class needs a name that its prompt can end with.")
    before = len(word_tokens(clip, PLACEHOLDER))
    return [[*word_tokens(clip, f"{PLACEHOLDER} {name}.")[before:], clip.marks.end] for name in class_names]


def word_tokens(clip: Clip, text: str) -> list[int]:
    """Tokens of a text, without those that mark its start and end."""
    tokens = clip.tokenizer([text], context_length=8 + 4 * len(text))[0].tolist()[len(clip.marks.start) :]
    return tokens[: tokens.index(clip.marks.end)]
