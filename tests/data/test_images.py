"""Every kind of image file becomes RGB, or is named in the error."""

import os

import numpy as np
import pytest
from PIL import EpsImagePlugin, Image

from pfedmoap.clip import load_clip
from pfedmoap.data import ImageFiles
from pfedmoap.data.views import training_pixels
from pfedmoap.errors import UserError

GRAY = np.arange(64, dtype=np.uint8).reshape(8, 8) * 4


def saved(path, image, **options):
    image.save(path, **options)
    return ImageFiles([path])[0]


@pytest.fixture
def colour():
    rng = np.random.default_rng(0)
    return Image.fromarray(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8))


def test_images_are_read_lazily_and_in_order(tmp_path, colour):
    colour.save(tmp_path / "b.png")
    Image.fromarray(GRAY).save(tmp_path / "a.png")
    images = ImageFiles([tmp_path / "b.png", tmp_path / "a.png", tmp_path / "not there yet.png"])
    assert len(images) == 3
    assert np.array_equal(images[0], colour)
    assert images[1].mode == "RGB"


def test_grayscale_is_repeated_over_the_channels(tmp_path):
    image = saved(tmp_path / "gray.png", Image.fromarray(GRAY))
    assert image.mode == "RGB"
    assert np.array_equal(np.asarray(image), np.repeat(GRAY[:, :, None], 3, axis=2))


@pytest.mark.parametrize("suffix", ["png", "tif", "pgm"])
def test_sixteen_bit_gray_is_scaled_and_not_clipped(tmp_path, suffix):
    image = saved(tmp_path / f"deep.{suffix}", Image.fromarray(GRAY.astype(np.uint16) * 257))
    assert image.mode == "RGB"
    assert np.array_equal(np.asarray(image)[:, :, 0], GRAY)


def test_palette_keeps_its_colours_and_drops_transparency(tmp_path, colour, recwarn):
    palette = colour.quantize(16)
    expected = np.asarray(palette.convert("RGB"))
    image = saved(tmp_path / "palette.png", palette, transparency=bytes([0] * 8 + [255] * 8))
    assert image.mode == "RGB"
    assert np.array_equal(image, expected)
    assert not recwarn.list


def test_alpha_is_dropped(tmp_path, colour):
    transparent = colour.copy()
    transparent.putalpha(Image.new("L", colour.size, 7))
    assert np.array_equal(saved(tmp_path / "alpha.png", transparent), colour)


def test_cmyk_jpeg_is_read_as_the_colour_it_shows(tmp_path):
    red = Image.new("RGB", (8, 8), (200, 30, 40))
    image = saved(tmp_path / "print.jpg", red.convert("CMYK"), quality=95)
    assert image.mode == "RGB"
    assert np.abs(np.asarray(image).astype(int) - np.asarray(red)).max() < 12


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp"])
def test_photographs_are_turned_upright_where_that_is_asked_for(tmp_path, suffix):
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: show it turned clockwise by 90 degrees
    Image.new("RGB", (8, 4), (200, 30, 40)).save(tmp_path / f"turned.{suffix}", exif=exif)
    assert ImageFiles([tmp_path / f"turned.{suffix}"])[0].size == (8, 4)
    assert ImageFiles([tmp_path / f"turned.{suffix}"], upright=True)[0].size == (4, 8)


def test_turning_is_the_right_way_round(tmp_path, colour):
    exif = Image.Exif()
    exif[0x0112] = 8
    colour.save(tmp_path / "turned.png", exif=exif)
    image = ImageFiles([tmp_path / "turned.png"], upright=True)[0]
    assert np.array_equal(image, np.rot90(np.asarray(colour)))


@pytest.mark.parametrize("exif", [b"Exif\0\0garbage", b"Exif\0\0II*\0\xff\xff\xff\xff"])
@pytest.mark.filterwarnings("ignore:.*EXIF")
def test_a_broken_description_does_not_spoil_a_photograph(tmp_path, colour, exif):
    colour.save(tmp_path / "odd.jpg", exif=exif)
    assert ImageFiles([tmp_path / "odd.jpg"], upright=True)[0].size == (8, 8)


def test_of_an_animation_the_first_frame_is_read(tmp_path):
    frames = [Image.new("RGB", (8, 8), shade) for shade in ((250, 0, 0), (0, 250, 0))]
    image = saved(tmp_path / "moving.gif", frames[0], save_all=True, append_images=frames[1:])
    assert image.mode == "RGB" and image.getpixel((3, 3)) == (250, 0, 0)


def test_a_single_pixel_is_an_image(tmp_path):
    image = saved(tmp_path / "dot.png", Image.new("RGB", (1, 1), (9, 8, 7)))
    assert image.size == (1, 1)
    assert training_pixels(image, 32, np.random.default_rng(0)).shape == (3, 32, 32)
    assert load_clip().plain_pixels(image).shape == (3, 160, 160)


def test_huge_images_are_refused_by_name(tmp_path, monkeypatch):
    Image.new("1", (1001, 1001)).save(tmp_path / "bomb.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 500_000)
    with pytest.raises(UserError, match=r"bomb.png has more than 1 million pixels: make it smaller or remove it"):
        ImageFiles([tmp_path / "bomb.png"])[0]


def test_strips_are_refused_by_name(tmp_path):
    Image.new("L", (1, 101)).save(tmp_path / "strip.png")
    with pytest.raises(UserError, match=r"strip.png is a strip of 1 x 101 pixels: crop it or remove it"):
        ImageFiles([tmp_path / "strip.png"])[0]
    assert saved(tmp_path / "narrow.png", Image.new("L", (1, 100))).size == (1, 100)


@pytest.mark.parametrize("suffix", ["jpg", "png"])
def test_truncated_file_is_named_with_the_remedy(tmp_path, colour, suffix):
    path = tmp_path / f"cut.{suffix}"
    colour.resize((64, 64)).save(path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(UserError, match=rf"cut\.{suffix} cannot be read .*delete or replace it, then run again"):
        ImageFiles([path])[0]


@pytest.mark.parametrize("content", [b"", b"<html>404</html>", b"\x89PNG\r\n\x1a\n broken"])
def test_file_that_is_no_image_is_named(tmp_path, content):
    (tmp_path / "page.jpg").write_bytes(content)
    with pytest.raises(UserError, match="page.jpg cannot be read as an image"):
        ImageFiles([tmp_path / "page.jpg"])[0]


def test_postscript_is_no_picture_whatever_it_is_called(tmp_path, monkeypatch):
    """Pillow would have Ghostscript execute it."""
    monkeypatch.setattr(EpsImagePlugin, "Ghostscript", lambda *arguments, **more: pytest.fail("it is executed"))
    (tmp_path / "a.jpg").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EOF\n")
    with pytest.raises(UserError, match="a.jpg cannot be read as an image"):
        ImageFiles([tmp_path / "a.jpg"])[0]


def test_a_pipe_is_no_picture(tmp_path):
    os.mkfifo(tmp_path / "a.jpg")
    with pytest.raises(UserError, match="a.jpg cannot be read as an image .it is no file"):
        ImageFiles([tmp_path / "a.jpg"])[0]


def test_missing_file_is_named(tmp_path):
    with pytest.raises(UserError, match="gone.jpg is missing"):
        ImageFiles([tmp_path / "gone.jpg"])[0]
