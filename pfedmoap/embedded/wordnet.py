"""WordNet 3.0's nouns, read from its own files (Debian's `wordnet-base` puts them into /usr/share/wordnet).

A synset is a set of names for one concept, with hypernyms (what it is a kind of) and a gloss (its definition).
ImageNet's class ids are WordNet's: "n02342885" is the noun synset at byte 2342885, the hamster.
"""

from collections import Counter, defaultdict
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from pfedmoap.errors import UserError

FOLDER = Path("/usr/share/wordnet")
HYPERNYM = ("@", "@i")  # kinds and instances
PHYSICAL_ENTITY = "n00001930"
_INSTALL = "install it (Debian and Ubuntu: apt install wordnet-base), or give the folder of WordNet 3.0's files"


@dataclass(frozen=True)
class Synset:
    """One concept.

    Attributes:
        id: "n" and eight digits.
        names: its lemmas, the usual one first, with spaces.
        hypernyms: ids.
        gloss: the definition, without examples.
    """

    id: str
    names: tuple[str, ...]
    hypernyms: tuple[str, ...]
    gloss: str


class WordNet:
    """The noun synsets by id, and what they are called.

    Attributes:
        synsets: id -> `Synset`.
        senses: lower-case name -> ids, the most frequent sense first.
        plurals: irregular ones, singular -> plural.
        counts: lower-case name -> how often it stands in WordNet's texts as a noun, where it does.
    """

    def __init__(self, folder: Path = FOLDER):
        """Reads the files `data.noun`, `index.noun`, `noun.exc` and `cntlist.rev`.

        Raises:
            UserError: a file is missing.
        """
        try:
            data, index, exceptions, counts = (
                (folder / name).read_text("latin-1").splitlines()
                for name in ("data.noun", "index.noun", "noun.exc", "cntlist.rev")
            )
        except OSError as error:
            raise UserError(f"WordNet's {error.filename} is missing: {_INSTALL} with --wordnet.") from error
        self.synsets = {synset.id: synset for synset in map(_synset, _rows(data))}
        self.senses = dict(map(_senses, _rows(index)))
        self.plurals = {line.split()[1]: line.split()[0] for line in exceptions}
        self.counts = Counter()
        for line in counts:  # "ice_cream%1:13:00:: 1 5": key of a sense, its rank, count
            name, _, key = line.partition("%")
            if key.startswith("1"):
                self.counts[name.replace("_", " ")] += int(line.split()[2])

    def ancestors(self, id: str) -> frozenset[str]:
        """The synset and everything that it is a kind of."""
        return self._ancestors[id]

    @cached_property
    def _ancestors(self) -> dict[str, frozenset[str]]:
        found: dict[str, frozenset[str]] = {}

        def visit(id: str) -> frozenset[str]:
            if id not in found:
                found[id] = frozenset([id]).union(*map(visit, self.synsets[id].hypernyms))
            return found[id]

        for id in self.synsets:
            visit(id)
        return found

    def everyday_names(self, id: str) -> list[str]:
        """A concept's names in lower case, the usual one first, without scientific ones ("Ursus arctos")."""
        first, *others = self.synsets[id].names
        return [first.lower(), *(name for name in others if name == name.lower())]

    @cached_property
    def physical(self) -> tuple[str, ...]:
        """Ids of what can be seen or touched, in WordNet's order."""
        return tuple(id for id in self.synsets if PHYSICAL_ENTITY in self.ancestors(id))

    def kinds(self, ids: tuple[str, ...]) -> dict[str, list[int]]:
        """Ancestor -> the places in `ids` of its kinds."""
        found = defaultdict(list)
        for place, id in enumerate(ids):
            for ancestor in self.ancestors(id):
                found[ancestor].append(place)
        return found

    def plural(self, name: str) -> str:
        """The plural of a name, by rule unless WordNet lists it."""
        *before, noun = name.split(" ")
        if noun in self.plurals:
            return " ".join([*before, self.plurals[noun]])
        if noun.endswith(("s", "x", "z", "ch", "sh")):
            return f"{name}es"
        if noun.endswith("y") and noun[-2:-1] not in "aeiou":
            return f"{name[:-1]}ies"
        return f"{name}s"


def _rows(lines: list[str]) -> list[str]:
    return [line for line in lines if not line.startswith("  ")]  # the licence


def _synset(line: str) -> Synset:
    """From "offset file type count name id ... count symbol offset type source ... | gloss"."""
    fields, _, gloss = line.partition("|")
    words = fields.split()
    pointers = 4 + 2 * int(words[3], 16)
    names = tuple(name.replace("_", " ") for name in words[4:pointers:2])
    symbols, targets = words[pointers + 1 :: 4], words[pointers + 2 :: 4]
    hypernyms = tuple(f"n{target}" for symbol, target in zip(symbols, targets, strict=False) if symbol in HYPERNYM)
    return Synset(f"n{words[0]}", names, hypernyms, gloss.split('; "')[0].strip())


def _senses(line: str) -> tuple[str, tuple[str, ...]]:
    """From "name type count ... offset offset ..."."""
    words = line.split()
    return words[0].replace("_", " "), tuple(f"n{offset}" for offset in words[-int(words[2]) :])
