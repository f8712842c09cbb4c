"""The released script's initial prompt: one token, the word "False", as an untyped flag had it (SPEC 9)."""

import torch
from torch import Tensor

from pfedmoap.clip import Clip
from pfedmoap.prompts import word_tokens


def word_prompt(clip: Clip, word: str) -> Tensor:
    """The switch `prompt_init`: a prompt of one context token, a word's embedding: (1, e).

    "False" is one token of CLIP's vocabulary, in lower case; of a longer word the first token is taken.
    """
    token = torch.tensor(word_tokens(clip, word)[:1], device=clip.device)
    return clip.token_embedding(token).detach().float().cpu()
