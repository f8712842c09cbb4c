"""A WordNet of a dozen nouns in the real files' format, made by hand."""

from pathlib import Path

NOUNS = {  # offset: names, hypernyms, gloss
    "00000001": (["entity"], [], "that which is"),
    "00001930": (["physical_entity"], ["00000001"], "an entity that has physical existence"),
    "00000100": (["animal"], ["00001930"], "a living organism that moves"),
    "00000110": (["bird"], ["00000100"], "an animal with feathers and wings"),
    "00000111": (["robin", "Turdus_migratorius"], ["00000110"], "a bird with a red breast"),
    "00000112": (["heron"], ["00000110"], "a grey wading bird with long legs"),
    "00000113": (["crane"], ["00000110"], "a large wading bird with long legs and neck; \"a crane flew\""),
    "00000120": (["machine"], ["00001930"], "a device that does work"),
    "00000121": (["crane"], ["00000120"], "a machine that lifts heavy loads"),
    "00000122": (["forklift"], ["00000120"], "a small machine that lifts and moves loads"),
    "00000123": (["mouse"], ["00000120"], "a small device that moves a cursor"),
    "00000130": (["idea"], ["00000001"], "the content of thought"),
}  # fmt: skip
SENSES = {"crane": ["00000121", "00000113"]}  # where there are several, the most frequent first
LICENCE = "  1 This software and database is being provided to you  \n"


def write_wordnet(folder: Path) -> Path:
    """Writes `data.noun`, `index.noun`, `noun.exc` and `cntlist.rev`."""
    folder.mkdir(parents=True, exist_ok=True)
    lines, senses = [], {}
    for offset, (names, hypernyms, gloss) in NOUNS.items():
        words = " ".join(f"{name} 0" for name in names)
        pointers = "".join(f" @ {above} n 0000" for above in hypernyms) + " ~ 00000001 n 0000"
        lines.append(f"{offset} 03 n {len(names):02x} {words} {len(hypernyms) + 1:03d}{pointers} | {gloss}  \n")
        for name in names:
            senses.setdefault(name.lower(), []).append(offset)
    index = (f"{name} n {len(ids)} 1 @ {len(ids)} 0 {' '.join(SENSES.get(name, ids))}  \n"
             for name, ids in senses.items())
    (folder / "data.noun").write_text(LICENCE + "".join(lines), "latin-1")
    (folder / "index.noun").write_text(LICENCE + "".join(index), "latin-1")
    (folder / "noun.exc").write_text("mice mouse\n", "latin-1")
    (folder / "cntlist.rev").write_text("robin%1:05:00:: 1 7\nrobin%2:38:00:: 1 9\ncrane%1:05:00:: 2 1\n", "latin-1")
    return folder
