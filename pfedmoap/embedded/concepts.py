"""Where a noun's text feature should lie, among the image features of a classifier that was trained on ImageNet.

A class that the classifier knows has its row of the weight matrix. What it does not know is placed by Gaussian-process
regression on those rows: two concepts are alike if they share hypernyms and words of their definitions. Which of these
matters how much was chosen by leaving out ImageNet's own classes (`held_out_accuracy`), not on any picture.
"""

import math
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_matrix
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.preprocessing import normalize

from pfedmoap.embedded.wordnet import WordNet

NOISE = 1.0  # variance of what the kernels do not explain, where a concept has 2
PATH_POWER = 3  # of the kernel of shared hypernyms: only near relatives count
MOST_KINDS = 150  # a hypernym of more ImageNet classes looks like nothing in particular
LEAST_SHARE = 0.02  # names of which the known classes tell less are left out
KNOWN = 3.0  # times as much counts a sense that is an ImageNet class


@dataclass(frozen=True)
class Names:
    """What things are called, and where their features should lie.

    Attributes:
        names: n of them, lower case.
        weights: (n,) how often a name is practised: the more, the more often people use it and the surer its place.
        sense_names: (m,) the places of the names that the senses belong to.
        sense_kinds: m hypernyms' names, one for each sense.
        targets: (n + m, d), normalised: of the names, averaged over their senses, then of the senses.
    """

    names: tuple[str, ...]
    weights: np.ndarray
    sense_names: np.ndarray
    sense_kinds: tuple[str, ...]
    targets: np.ndarray


class Kernel:
    """How alike concepts are: by shared hypernyms, each weighed by what it tells, and by words of their definitions."""

    def __init__(self, wordnet: WordNet):
        self.wordnet = wordnet
        below = Counter(ancestor for id in wordnet.synsets for ancestor in wordnet.ancestors(id))
        self._information = {id: math.log(len(wordnet.synsets) / below[id]) for id in wordnet.synsets}

    def __call__(self, ids: Sequence[str], known: Sequence[str]) -> np.ndarray:
        """(ids, known); 2 between a concept and itself."""
        both, n = [*known, *ids], len(known)
        paths, words = self._paths(both), self._words(both)
        shared = (paths[n:] @ paths[:n].T).toarray()
        return shared**PATH_POWER + (words[n:] @ words[:n].T).toarray()

    def _paths(self, ids: Sequence[str]) -> csr_matrix:
        """A row per concept: the square root of what each ancestor tells beyond its own hypernyms; unit length."""
        columns: dict[str, int] = defaultdict(lambda: len(columns))
        entries = [(row, columns[ancestor], self._told_by(ancestor)) for row, id in enumerate(ids)
                   for ancestor in sorted(self.wordnet.ancestors(id))]
        rows, at, values = zip(*entries, strict=True)
        return normalize(csr_matrix((values, (rows, at)), shape=(len(ids), len(columns))))

    def _told_by(self, id: str) -> float:
        above = max((self._information[hypernym] for hypernym in self.wordnet.synsets[id].hypernyms), default=0.0)
        return math.sqrt(max(self._information[id] - above, 1e-3))

    def _words(self, ids: Sequence[str]) -> csr_matrix:
        """A row per concept: TF-IDF of names and glosses, its own and its hypernyms'; unit length."""
        synsets = self.wordnet.synsets
        texts = [" ".join(_text(synsets[one]) for one in (id, *synsets[id].hypernyms)) for id in ids]
        return TfidfVectorizer(tokenizer=_stems, token_pattern=None, min_df=2, sublinear_tf=True).fit_transform(texts)


def joint_space(rows: np.ndarray, width: int) -> tuple[np.ndarray, np.ndarray]:
    """The projection of image features onto what tells the classes apart.

    Args:
        rows: (classes, features), the classifier's weights.
        width: d.

    Returns:
        The projection (features, d) onto the leading right singular vectors of the centred rows, halfway to whitening,
        and the classes' normalised places there, (classes, d).
    """
    centred = rows - rows.mean(0)
    _, values, vectors = np.linalg.svd(centred, full_matrices=False)
    projection = (vectors[:width] / values[:width, None] ** 0.5).T
    return projection, normalize(centred @ projection)


def place(
    kernel: Kernel, ids: Sequence[str], known: Sequence[str], places: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Regression of concepts' places on those of known ones.

    Returns:
        Normalised places (ids, d), and the share of each one's variance that is explained, (ids,).
    """
    gram = kernel(known, known) + NOISE * np.eye(len(known))
    cross = kernel(ids, known)
    explained = np.einsum("ij,ji->i", cross, np.linalg.solve(gram, cross.T)) / 2
    return normalize(cross @ np.linalg.solve(gram, places)), explained


def held_out_accuracy(kernel: Kernel, known: Sequence[str], places: np.ndarray, folds: int = 10) -> float:
    """The share of left-out classes whose regressed place is the nearest of its fold's to their own row."""
    fold = np.random.default_rng(0).permutation(len(known)) % folds
    right = 0
    for number in range(folds):
        out, rest = (np.flatnonzero(mask) for mask in (fold == number, fold != number))
        found, _ = place(kernel, [known[k] for k in out], [known[k] for k in rest], places[rest])
        right += ((places[out] @ found.T).argmax(1) == np.arange(len(out))).sum()
    return right / len(known)


def named_places(kernel: Kernel, known: tuple[str, ...], places: np.ndarray) -> Names:
    """Every name of a physical thing of which the known classes tell something, with its place.

    A known concept has its own place, a hypernym of at most `MOST_KINDS` known ones their mean, others are regressed.
    """
    wordnet, row = kernel.wordnet, {id: k for k, id in enumerate(known)}
    found, trust = _placed(kernel, known, places)
    senses_of = {name: [id for id in wordnet.senses[name] if id in found]
                 for name in sorted({name for id in found for name in wordnet.everyday_names(id)})}
    names, weights, means, senses = [], [], [], []
    for name, ids in senses_of.items():
        shares = [trust[id] * (KNOWN if id in row else 1.0) / (1 + rank) for rank, id in enumerate(ids)]
        if max(shares) >= LEAST_SHARE:
            senses += [(len(names), wordnet.synsets[hypernym].names[0].lower(), found[id])
                       for id, share in zip(ids, shares, strict=True) if share >= LEAST_SHARE
                       for hypernym in wordnet.synsets[id].hypernyms[:1]]
            names.append(name)
            weights.append(max(shares) ** 0.5 * (1 + math.log2(1 + wordnet.counts[name])))
            means.append(np.average([found[id] for id in ids], axis=0, weights=shares))
    of_names, kinds, of_senses = zip(*senses, strict=True)
    targets = normalize(np.concatenate([means, of_senses])).astype(np.float32)
    return Names(tuple(names), np.array(weights), np.array(of_names), kinds, targets)


def _placed(
    kernel: Kernel, known: tuple[str, ...], places: np.ndarray
) -> tuple[dict[str, np.ndarray], dict[str, float]]:
    """Place of every physical synset, and how far it can be trusted, from 0 to 1."""
    ids, kinds = kernel.wordnet.physical, kernel.wordnet.kinds(known)
    found, explained = place(kernel, ids, known, places)
    seen = {id: rows for id, rows in kinds.items() if len(rows) <= MOST_KINDS}
    means = {id: normalize(places[rows].mean(0, keepdims=True))[0] for id, rows in seen.items()}
    return (dict(zip(ids, found, strict=True)) | means,
            dict(zip(ids, explained.tolist(), strict=True)) | dict.fromkeys(means, 1.0))


def _text(synset) -> str:
    return f"{' '.join(synset.names)} {synset.gloss}"


def _stems(text: str) -> list[str]:
    words = ("".join(c if c.isalpha() else " " for c in text.lower())).split()
    return [_stem(word) for word in words if len(word) > 2]


def _stem(word: str) -> str:
    for ending in ("ies", "es", "s", "ing"):
        if word.endswith(ending) and len(word) > len(ending) + 3:
            return word.removesuffix(ending)
    return word
