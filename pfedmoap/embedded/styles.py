"""Photographs redrawn in other styles, by Pillow: the domains of the embedded sets.

Every style takes a photograph in mode RGB and a generator, and gives a picture of the same size.
"""

import io
from collections.abc import Callable

import numpy as np
from PIL import Image, ImageChops, ImageDraw, ImageEnhance, ImageFilter, ImageOps

Style = Callable[[Image.Image, np.random.Generator], Image.Image]
INK = [(214, 69, 65), (65, 131, 215), (38, 166, 91), (244, 179, 80), (142, 68, 173)]


def photo(image: Image.Image, random: np.random.Generator) -> Image.Image:
    """As it is."""
    return image


def sketch(image: Image.Image, random: np.random.Generator) -> Image.Image:
    """A pencil drawing: the photograph divided by its blurred self."""
    gray = ImageOps.autocontrast(ImageOps.grayscale(image))
    blurred = np.asarray(gray.filter(ImageFilter.GaussianBlur(3)), np.float32)
    lines = np.asarray(gray, np.float32) / np.maximum(blurred, 1)
    return Image.fromarray((255 * lines.clip(0, 1) ** 3).astype(np.uint8)).convert("RGB")


def painting(image: Image.Image, random: np.random.Generator) -> Image.Image:
    """Broad, saturated strokes."""
    strokes = image.filter(ImageFilter.ModeFilter(7)).filter(ImageFilter.SMOOTH)
    return ImageEnhance.Color(strokes).enhance(1.8)


def clipart(image: Image.Image, random: np.random.Generator) -> Image.Image:
    """Few flat colours within dark outlines."""
    flat = ImageOps.posterize(image.filter(ImageFilter.MedianFilter(5)), 2)
    flat = ImageEnhance.Brightness(ImageEnhance.Color(flat).enhance(2.0)).enhance(1.3)
    return ImageChops.multiply(flat, _outlines(image, strength=2.5).convert("RGB"))


def quickdraw(image: Image.Image, random: np.random.Generator) -> Image.Image:
    """Thick black outlines on white."""
    lines = _outlines(image.filter(ImageFilter.GaussianBlur(1.2)), strength=6.0)
    return lines.filter(ImageFilter.MinFilter(3)).point(lambda value: 255 * (value > 150)).convert("RGB")


def infograph(image: Image.Image, random: np.random.Generator) -> Image.Image:
    """The photograph on a page with bars, and lines where text would stand."""
    width, height = image.size
    page = Image.new("RGB", image.size, tuple(random.integers(225, 256, 3).tolist()))
    draw, share = ImageDraw.Draw(page), 0.72
    small = image.resize((round(share * width), round(share * height)), Image.Resampling.LANCZOS)
    page.paste(small, (width - small.width - 3, 3))
    left = width - small.width - 8
    for top in range(5, small.height, 5):
        draw.line((3, top, 3 + left * random.uniform(0.5, 1), top), fill=(120, 120, 120))
    floor, bars = height - 4, 7
    for bar in range(bars):
        tall = (height - small.height - 10) * random.uniform(0.3, 1)
        start = 4 + bar * (width - 8) / bars
        draw.rectangle((start, floor - tall, start + (width - 8) / bars - 4, floor), fill=INK[bar % len(INK)])
    return page


def product(image: Image.Image, random: np.random.Generator) -> Image.Image:
    """The middle of the photograph on white, as shops show things."""
    rows, columns = np.ogrid[-1 : 1 : image.height * 1j, -1 : 1 : image.width * 1j]
    shown = (1.6 - 1.6 * (rows**4 + columns**4) ** 0.5).clip(0, 1)[..., None]  # (H, W, 1)
    light = np.asarray(ImageEnhance.Brightness(image).enhance(1.2), np.float32)
    return Image.fromarray((shown * light + (1 - shown) * 255).astype(np.uint8))


def webcam(image: Image.Image, random: np.random.Generator) -> Image.Image:
    """Few pixels, little colour, a green tint, noise and the blocks of a JPEG file."""
    few = image.resize([max(8, side // 2) for side in image.size], Image.Resampling.BILINEAR)
    pale = np.asarray(ImageEnhance.Color(few).enhance(0.4), np.float32) * (0.75, 0.85, 0.7)
    noisy = pale + random.normal(0, 14, pale.shape)
    buffer = io.BytesIO()
    Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(buffer, "JPEG", quality=25)
    return Image.open(buffer).convert("RGB").resize(image.size, Image.Resampling.BILINEAR)


def grayscale(image: Image.Image, random: np.random.Generator) -> Image.Image:
    """Black and white, with much contrast."""
    return ImageOps.autocontrast(ImageOps.grayscale(image), cutoff=5).convert("RGB")


def wallpaper(image: Image.Image, random: np.random.Generator) -> Image.Image:
    """Two shades of one colour, behind a pattern of stripes."""
    colour = INK[random.integers(len(INK))]
    toned = ImageOps.colorize(ImageOps.grayscale(image), "black", "white", mid=colour)
    stripes = Image.new("RGB", image.size, "white")
    draw = ImageDraw.Draw(stripes)
    for start in range(-image.height, image.width, 10):
        draw.line((start, image.height, start + image.height, 0), fill=(200, 200, 200), width=3)
    return ImageChops.multiply(toned, stripes)


def _outlines(image: Image.Image, strength: float) -> Image.Image:
    """Dark where the brightness changes, white elsewhere; mode L."""
    gray = ImageOps.autocontrast(ImageOps.grayscale(image.filter(ImageFilter.SMOOTH)))
    edges = np.asarray(gray.filter(ImageFilter.FIND_EDGES), np.float32)
    edges[[0, -1]], edges[:, [0, -1]] = 0, 0
    return Image.fromarray((255 - strength * edges).clip(0, 255).astype(np.uint8))
