"""Extraction of image features from files, by two processes at one cache."""

import random
from pathlib import Path

from contents import features, records, timeless
from PIL import Image
from striking import Command, Work, pfedmoap

CLASSES, EACH, SIZE = 8, 40, 160


def make_pictures(folder: Path) -> None:
    """Pictures of coloured noise, the same each time, in a folder for each class."""
    colours = random.Random(0)
    for number in range(CLASSES):
        own = folder / f"class{number}"
        own.mkdir(parents=True)
        for picture in range(EACH):
            image = Image.frombytes("RGB", (8, 8), colours.randbytes(3 * 8 * 8))
            image.resize((SIZE, SIZE)).save(own / f"{picture:03d}.png")


def commands(folder: Path) -> list[Command]:
    make_pictures(folder / "pictures")
    places = ("--data-root", folder / "pictures", "--results", folder / "records", "--cache-dir", folder / "cache")
    settings = ("--method", "class_means", "--profile", "smoke", "--shots", "none", "--clients", 4)
    return [Command(f"extraction {seed}", pfedmoap("run", "--dataset", "folders", "--seed", seed, *settings, *places))
            for seed in (1, 2)]


def left(folder: Path) -> dict[str, str]:
    return features(folder / "cache") | records(folder / "records", folder)


def asks(folder: Path) -> list[Command]:
    return [Command("cache", pfedmoap("cache", "--json", "--cache-dir", folder / "cache"))]


FEATURES = Work("features", commands, left, asks=asks, shown=timeless,
                compared="features byte for byte, records without seconds, what `pfedmoap cache --json` shows")
