"""Captions that a name is practised in: sentences, adjectives, plurals, parts, kinds, and words that mean nothing."""

from collections.abc import Sequence

import numpy as np

from pfedmoap.embedded.concepts import Names
from pfedmoap.embedded.wordnet import WordNet

SENTENCES = (
    "a photo of a", "a photo of the", "a photo of one", "an image of a", "a picture of a", "this is a photo of a",
    "a close-up photo of a", "a bright photo of a", "a dark photo of a", "a cropped photo of a", "a good photo of a",
    "a blurry photo of a", "a low resolution photo of a", "a black and white photo of a", "a drawing of a",
    "a painting of a", "a sketch of a", "itap of a", "a", "the", "there is a", "here we see a", "i found a",
)  # fmt: skip
OF_MANY = ("a photo of many", "a photo of some", "a photo of two", "several", "a picture of", "these are")
ADJECTIVES = (
    "red", "green", "blue", "yellow", "white", "black", "brown", "gray", "small", "large", "big", "old", "new", "young",
    "wild", "domestic", "wooden", "metal", "modern", "antique", "beautiful", "dirty", "clean", "common", "single",
    "striped", "spotted", "colorful", "tall", "tiny",
)  # fmt: skip
PARTS = ("head", "face", "body", "side", "front", "back", "top", "view", "close up", "in profile",
         "on white", "outdoors")  # fmt: skip
FILLERS = (
    "the", "of", "and", "to", "in", "is", "that", "for", "it", "on", "with", "as", "was", "at", "by", "this", "from",
    "or", "have", "one", "had", "not", "but", "what", "all", "were", "when", "we", "there", "can", "your", "which",
    "their", "said", "if", "do", "will", "each", "about", "how", "up", "out", "them", "then", "she", "many", "some",
)  # fmt: skip
LONGEST_FILLER = 18  # words before a name that mean nothing, so that it is known wherever a prompt may push it to
SHARES = {"plain": 0.46, "filler": 0.22, "bare": 0.06, "many": 0.06, "adjective": 0.12, "part": 0.08}
OF_SENSES = 0.15  # of the captions say what kind of thing a name means, and mean nothing else


class Phrases:
    """Draws captions of names; some of one sense of a name, with a hypernym that tells which.

    Args:
        names: what is practised, and how often.
        wordnet: for plurals.
    """

    def __init__(self, names: Names, wordnet: WordNet):
        self._names, self._wordnet = names, wordnet
        self._chances = names.weights / names.weights.sum()
        self._sense_chances = self._chances[names.sense_names] / self._chances[names.sense_names].sum()

    def draw(self, random: np.random.Generator, count: int) -> tuple[list[str], np.ndarray]:
        """Captions, and the rows of the targets that they mean, (count,)."""
        of_senses = random.binomial(count, OF_SENSES)
        names = random.choice(len(self._chances), count - of_senses, p=self._chances)
        senses = random.choice(len(self._sense_chances), of_senses, p=self._sense_chances)
        captions = [self._of_name(random, self._names.names[place]) for place in names.tolist()]
        captions += [self._of_sense(random, place) for place in senses.tolist()]
        return captions, np.concatenate([names, len(self._chances) + senses])

    def words(self) -> set[str]:
        """Every word that a caption may hold."""
        texts = (*SENTENCES, *OF_MANY, *ADJECTIVES, *PARTS, *FILLERS, ", a type of : an", *self._names.names,
                 *map(self._wordnet.plural, self._names.names), *self._names.sense_kinds)  # fmt: skip
        return {word for text in texts for word in text.split()}

    def _of_name(self, random: np.random.Generator, name: str) -> str:
        how, start = random.choice(list(SHARES), p=list(SHARES.values())), _some(random, SENTENCES)
        if how == "filler":
            return " ".join([*random.choice(FILLERS, random.integers(1, LONGEST_FILLER + 1)), f"{name}."])
        return {"plain": f"{start} {name}.", "bare": name,
                "many": f"{_some(random, OF_MANY)} {self._wordnet.plural(name)}.",
                "adjective": f"{start} {_some(random, ADJECTIVES)} {name}.",
                "part": f"{start} {name} {_some(random, PARTS)}."}[how]

    def _of_sense(self, random: np.random.Generator, place: int) -> str:
        name, kind = self._names.names[self._names.sense_names[place]], self._names.sense_kinds[place]
        start = _some(random, SENTENCES)
        return f"{start} {kind} {name}." if random.random() < 0.5 else f"{start} {name}, a type of {kind}."


def _some(random: np.random.Generator, texts: Sequence[str]) -> str:
    return texts[random.integers(len(texts))]
