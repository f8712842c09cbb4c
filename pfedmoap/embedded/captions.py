"""Captions for scenes, and the tokens of their words."""

import functools

import numpy as np
from open_clip.tokenizer import SimpleTokenizer

from pfedmoap.embedded.figures import CHARACTERS, NAMES, PATTERN, SHAPES
from pfedmoap.embedded.palette import COLOURLESS, COLOURS, STYLES, TEXTURELESS, TEXTURES, VIEWS

# Used as "a [view] photo of a [name]."
TEMPLATES = ("photo of", "picture of", "image of", "rendering of", "close-up of")
MOST_FILLER = 18  # so that 16 learned tokens before a class name are a familiar sight
FILLER = (
    "the", "of", "and", "to", "in", "is", "that", "for", "it", "on", "with", "as", "was", "at", "by", "this", "from",
    "or", "have", "one", "had", "not", "but", "what", "all", "were", "when", "we", "there", "can", "your", "which",
    "their", "said", "if", "do", "will", "each", "about", "how", "up", "out", "them", "then", "she", "many", "some",
    "so", "these", "would", "other", "into", "has", "more", "two", "like", "him", "see", "time", "could", "no", "make",
    "than", "first", "been", "its", "who", "now", "people", "my", "made", "over", "did", "down", "only", "way", "find",
)  # fmt: skip
_TEXTURE_NAMES, _COLOUR_NAMES = TEXTURES, tuple(COLOURS)
_STYLE_NAMES, _VIEW_NAMES = tuple(STYLES), tuple(VIEWS)
# A caption now and then names a wrong colour or shape, as captions found on the web do.
WRONG_ATTRIBUTE, WRONG_SHAPE = 0.10, 0.06


def describe(colour: str | None, texture: str | None, figure: str) -> str:
    """The name of a figure with its attributes: "red striped star", "dotted fish", "digit three"."""
    return " ".join(word for word in (colour, texture, figure) if word)


def caption(scene: np.ndarray, random: np.random.Generator) -> tuple[str, ...]:
    """Writes one caption.

    Args:
        scene: one `SCENE` row.
        random: decides what is mentioned, and in which words.

    Returns:
        The caption's words; joined by spaces they are an English sentence or a string of words around the name.
    """
    style, view = _STYLE_NAMES[scene["style"]], _VIEW_NAMES[scene["view"]]
    name = _name(scene, style, random)
    adjectives = (view,) if view != "plain" and random.random() < 0.75 else ()
    kind = random.random()
    if kind < 0.10:
        return adjectives + name
    noun = style if style != "picture" and random.random() < 0.6 else None
    if kind < 0.38:
        return _filled(adjectives + ((noun,) if noun else ()), random) + name + (".",)
    if random.random() < 0.15:
        return ("this", "is", *_with_article(adjectives + ((noun,) if noun else ()) + name), ".")
    medium = (noun, "of") if noun else tuple(TEMPLATES[random.integers(len(TEMPLATES))].split())
    return (*_with_article(adjectives + medium), *_with_article(name), ".")


def _name(scene: np.ndarray, style: str, random: np.random.Generator) -> tuple[str, ...]:
    figure = NAMES[scene["figure"]]
    colour, texture = _COLOUR_NAMES[scene["colour"]], _TEXTURE_NAMES[scene["texture"]]
    chance = random.random(6)
    if chance[0] < WRONG_ATTRIBUTE:
        colour = _COLOUR_NAMES[random.integers(len(_COLOUR_NAMES))]
    if chance[1] < WRONG_ATTRIBUTE:
        texture = _TEXTURE_NAMES[random.integers(len(_TEXTURE_NAMES))]
    if chance[2] < WRONG_SHAPE and figure in SHAPES:
        figure = SHAPES[random.integers(len(SHAPES))]
    says_colour = style not in COLOURLESS and chance[3] < 0.6
    texture_rate = 0.85 if figure == PATTERN else 0.1 if figure in CHARACTERS else 0.2 if texture == "solid" else 0.5
    says_texture = style not in TEXTURELESS and chance[4] < texture_rate
    return tuple(describe(colour if says_colour else None, texture if says_texture else None, figure).split())


def _with_article(words: tuple[str, ...]) -> tuple[str, ...]:
    return ("an" if words[0][0] in "aeiou" else "a", *words)


def _filled(words: tuple[str, ...], random: np.random.Generator) -> tuple[str, ...]:
    """Random words with the given ones somewhere among them."""
    filler = [FILLER[k] for k in random.integers(len(FILLER), size=random.integers(1, MOST_FILLER + 1))]
    for word in words:
        filler[random.integers(len(filler))] = word
    return tuple(filler)


@functools.cache
def word_tokens(word: str) -> tuple[int, ...]:
    """Tokens of one word in the standard CLIP vocabulary."""
    return tuple(_tokenizer().encode(word))


def tokens(words: tuple[str, ...]) -> list[int]:
    """A caption's tokens between the start and the end token."""
    inner = [token for word in words for token in word_tokens(word)]
    return [_tokenizer().sot_token_id, *inner, _tokenizer().eot_token_id]


def vocabulary() -> np.ndarray:
    """All tokens that captions and prompts can contain, sorted; 0 is the padding."""
    # Articles and marks that no caption here has, but hand-written prompts may.
    words = {*FILLER, *COLOURS, *TEXTURES, *STYLES, *VIEWS, "a", "an", "this", ".", ",", ":", '"'}
    words |= {word for text in (*TEMPLATES, *NAMES) for word in text.split()}
    inner = {token for word in words for token in word_tokens(word)}
    return np.array(sorted({0, _tokenizer().sot_token_id, _tokenizer().eot_token_id, *inner}), np.int32)


@functools.cache
def _tokenizer() -> SimpleTokenizer:
    return SimpleTokenizer()
