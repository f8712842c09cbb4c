"""What lies beside the images is left out and counted; of animations the first frame is used, which is said."""

import pytest
from layouts import write_classes, write_image
from PIL import Image

from pfedmoap.data import leftovers
from pfedmoap.experiments import load_dataset


def said(root) -> str:
    return load_dataset("folders", root).source.partition("fixed seed")[2]


def write_animation(path, frames: int) -> None:
    shown = [Image.new("RGB", (8, 8), (60 * number, 0, 0)) for number in range(frames)]
    shown[0].save(path, save_all=frames > 1, append_images=shown[1:])


def test_nothing_is_said_of_nothing(tmp_path):
    write_classes(tmp_path, {"cat": 3, "dog": 3})
    write_animation(tmp_path / "cat" / "still.gif", 1)
    assert said(tmp_path) == ""


def test_every_kind_is_counted(tmp_path):
    write_classes(tmp_path, {"cat": 3, "dog": 3})
    for name in (".DS_Store", "cat/.DS_Store", "cat/._image_0001.jpg", "dog/Thumbs.db", "dog/desktop.ini", "dog/7.jpg"):
        (tmp_path / name).touch()
    for name in ("read me.txt", "dog/8.heic"):
        (tmp_path / name).write_text("x")
    (tmp_path / "dog" / "gone.png").symlink_to(tmp_path / "nowhere.png")
    write_image(tmp_path / "lost.png")
    write_classes(tmp_path / "cat", {"small": 2})
    assert said(tmp_path) == (
        "; left out: 5 hidden files, 1 empty file, 1 broken link, 2 files that are no images, "
        "1 image outside a class folder, 1 folder inside a class folder"
    )
    imageset = load_dataset("folders", tmp_path)
    assert len(imageset.train) + len(imageset.test) == 6


@pytest.mark.parametrize("above", ["clients/a", "photo", "."])
def test_every_layout_is_looked_through(tmp_path, above):
    for part in ("train", "test"):
        write_classes(tmp_path / above / part, {"cat": 2})
        (tmp_path / above / part / ".DS_Store").touch()
    (tmp_path / above / "val").mkdir()
    (tmp_path / above / ".DS_Store").touch()
    assert load_dataset("folders", tmp_path).source.endswith("; left out: 3 hidden files")


def test_empty_files_of_a_list_are_left_out(tmp_path):
    for number in range(4):
        write_image(tmp_path / f"{number}.png")
    (tmp_path / "4.png").touch()
    (tmp_path / "mine.csv").write_text("path,label\n" + "".join(f"{number}.png,cat\n" for number in range(5)))
    imageset = load_dataset("folders", tmp_path / "mine.csv")
    assert imageset.source.endswith("; left out: 1 empty file")
    assert len(imageset.train) + len(imageset.test) == 4


def test_animations_are_counted(tmp_path):
    write_classes(tmp_path, {"cat": 3, "dog": 3})
    write_animation(tmp_path / "cat" / "a.gif", 2)
    write_animation(tmp_path / "cat" / "b.WEBP", 3)
    (tmp_path / "cat" / "broken.gif").write_bytes(b"oops")
    assert said(tmp_path) == "; first frame of 2 animations"


def test_in_words():
    assert leftovers.in_words({}, 0) == ""
    assert leftovers.in_words({"empty file": 2}, 1) == "; left out: 2 empty files; first frame of 1 animation"
