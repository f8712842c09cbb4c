"""Image features, computed once per (weights, data, view) and kept on disk.

The image tower is frozen, so the features of an image never change. Only images that a run uses are computed; a later
run that needs more images or more views adds them, and one that was killed goes on where it was.
"""

import os
import shutil
import sys
import warnings
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader
from tqdm import tqdm

from pfedmoap.clip import Clip
from pfedmoap.data.cache import write_backbone
from pfedmoap.data.feature_table import FeatureTable
from pfedmoap.data.hub import HubImages
from pfedmoap.data.images import CIFAR, ImageFiles, cifar_view
from pfedmoap.data.imageset import ImageSet
from pfedmoap.data.views import training_pixels
from pfedmoap.errors import PfedmoapError, UserError
from pfedmoap.randomness import generator
from pfedmoap.system import as_file_name

BATCH, GPU_BATCH = 32, 128
AHEAD = 2  # batches that a GPU has been given beyond the one that the host waits for
MANY_IMAGES, MANY_CORES = 512, 4  # with fewer, decoding in worker processes was measured to be slower than without
MOST_WORKERS = 16


def image_features(
    clip: Clip,
    imageset: ImageSet,
    split: str,
    views: int = 0,
    *,
    cache_dir: str | Path,
    seed: int = 0,
    indices: np.ndarray | None = None,
    progress: bool = True,
    spatial: bool = False,
    preprocess: str = "clip",
) -> np.ndarray:
    """Normalised image features of a split, from the cache where they are there, computed and cached where not.

    Several processes may ask for the same features at once: one computes, the others wait for it.

    Args:
        clip: the frozen CLIP.
        imageset: what to encode.
        split: "train" or "test".
        views: 0 for the test view (resize and centre crop); V >= 1 for V training views (random crop and flip), drawn
            from (seed, image, view). Sets with `augment=False` have the test view in place of every training view.
        cache_dir: where to keep features.
        seed: of the training views.
        indices: the images that are needed; None: all.
        progress: whether to show progress on standard error when it takes more than a second.
        spatial: the features of every image position (`Clip.encode_spatial`) instead of the global ones.
        preprocess: "clip": the CLIP's own; "cifar", as in the released code: `images.cifar_view` for every view of the
            sets cifar10 and cifar100, the others as with "clip".

    Returns:
        (max(views, 1), n, d), with `spatial` (max(views, 1), n, M, d), float32, memory-mapped and read-only, n being
        the number of images in the whole split: images keep their index. Rows of images that are not in `indices` are
        not defined.

    Raises:
        UserError: an image cannot be read, the folder cannot be written, or the disk is too small.
    """
    n = len(getattr(imageset, split))
    indices = np.arange(n) if indices is None else np.unique(indices)
    cifar = preprocess == "cifar" and imageset.name in CIFAR
    augmented = views > 0 and imageset.augment and not cifar
    row = (clip.positions, clip.embed_dim) if spatial else (clip.embed_dim,)
    table = FeatureTable(
        folder_of(imageset, cache_dir),
        f"{clip.fingerprint[:12]}-{split}" + f"-views-seed{seed}" * augmented + "-cifar" * cifar
        + "-spatial" * spatial,
        (views if augmented else 1, n, *row),
    )
    finished, _ = table.check(indices)
    if not finished.all():
        view_of = _Views(clip, imageset, split, seed if augmented else None, spatial, cifar)
        _complete(table, view_of, indices, progress)
    return np.broadcast_to(table.features(), (max(views, 1), n, *row))


def folder_of(imageset: ImageSet, cache_dir: str | Path) -> Path:
    """The folder of a set's features; other content has another fingerprint and hence another folder."""
    return Path(cache_dir) / f"{as_file_name(imageset.name)}-{imageset.fingerprint[:12]}"


def _complete(table: FeatureTable, views: "_Views", indices: np.ndarray, progress: bool) -> None:
    """Computes the rows that are missing or damaged, one process at a time."""
    try:
        table.folder.mkdir(parents=True, exist_ok=True)
        with table.locked():
            write_backbone(table.folder, views.clip.fingerprint, views.clip.name, views.clip.weights)
            table.grow()
            finished, damaged = table.check(indices)
            if damaged.any():
                warnings.warn(f"damaged rows in {table.rows} are computed again ({damaged.sum()})", stacklevel=3)
            position, view = np.nonzero(~finished.T)  # an image's views in a row, so that it is decoded once a batch
            _compute(table, views, np.stack([view, indices[position]], axis=1), progress)
    except OSError as error:
        raise UserError(
            f"the feature cache {table.folder} cannot be written ({error.strerror or error}): "
            "make room or change its permissions, or keep it elsewhere (--cache-dir DIR)"
        ) from error


def _compute(table: FeatureTable, views: "_Views", jobs: np.ndarray, progress: bool) -> None:
    needed = len(jobs) * (table.row_bytes + 4)
    free = shutil.disk_usage(table.folder).free
    if needed > free:
        raise UserError(
            f"the features of {views.title} take {needed / 1e6:,.0f} MB and {table.folder} has {free / 1e6:,.0f} MB "
            "free: make room or keep the cache elsewhere (--cache-dir DIR)"
        )
    on_gpu = views.clip.device.type != "cpu"
    size, ahead = (GPU_BATCH, AHEAD) if on_gpu else (BATCH, 0)
    batches = [jobs[start : start + size] for start in range(0, len(jobs), size)]
    begun: deque[tuple[np.ndarray, _Encoding]] = deque()
    with tqdm(total=len(jobs), desc=f"features of {views.title}", unit=" images", delay=1, disable=not progress) as bar:

        def finish_all_but(number: int) -> None:
            while len(begun) > number:
                batch, encoding = begun.popleft()
                table.write(batch, encoding.features())
                bar.update(len(batch))

        for batch, images in zip(batches, _decoded(views, batches), strict=True):
            begun.append((batch, _encode(views, images, size)))  # on a GPU this returns before it is done
            finish_all_but(ahead)
        finish_all_but(0)


class _Encoding(NamedTuple):
    """Features in main memory, (b, d) or (b, M, d), or on their way there: then with the event that ends it."""

    arriving: Tensor
    arrived: torch.cuda.Event | None

    def features(self) -> np.ndarray:
        if self.arrived is not None:
            self.arrived.synchronize()
        features = self.arriving.numpy()
        if not np.isfinite(features).all():
            raise PfedmoapError("the image tower gives features that are not finite: check its weights, or use fp32")
        return features


def _encode(views: "_Views", images: np.ndarray, size: int) -> _Encoding:
    """Encodes at most `size` images, (b, 3, H, W).

    A short batch is filled up. The towers round differently at another batch size, and features must not depend on what
    was in the cache before.
    """
    full = images if len(images) == size else np.resize(images, (size, *images.shape[1:]))  # repeats the images
    pixels, device = torch.from_numpy(full), views.clip.device
    if device.type == "cuda":
        pixels = pixels.pin_memory()  # else the host waits for the copy
    pixels = pixels.to(device, non_blocking=True)
    features = views.encode(views.clip.normalise(pixels) if pixels.dtype == torch.uint8 else pixels)[: len(images)]
    if device.type != "cuda":
        return _Encoding(features.cpu(), None)
    # Their way back begins before anything else that the GPU is given, else it would have to wait for that.
    return _Encoding(features.to("cpu", non_blocking=True), torch.cuda.current_stream(device).record_event())


@dataclass(frozen=True)
class _Views:
    """The image of a (view, image) pair as it is encoded, and how; `seed` None is the test view."""

    clip: Clip
    imageset: ImageSet
    split: str
    seed: int | None
    spatial: bool
    cifar: bool

    @property
    def title(self) -> str:
        kinds = " (CIFAR's mean and std)" * self.cifar + " (spatial)" * self.spatial
        return f"{self.imageset.name} {self.split}{kinds}"

    @property
    def encode(self) -> Callable[[Tensor], Tensor]:
        return self.clip.encode_spatial if self.spatial else self.clip.encode_images

    @cached_property
    def images(self) -> Sequence[Image.Image]:
        return getattr(self.imageset, self.split).images

    @cached_property
    def _last(self) -> dict[int, Image.Image]:
        """The image that was decoded last, as its other views come next."""
        return {}

    def _image(self, index: int) -> Image.Image:
        if index not in self._last:
            self._last.clear()
            self._last[index] = self.images[index]
        return self._last[index]

    def __getitem__(self, job: np.ndarray) -> np.ndarray | UserError:
        """(3, H, W): uint8, which is four times less to hand over than what it becomes when it is normalised; or fp32.
        """
        view, index = map(int, job)
        try:
            image = self._image(index)
        except UserError as error:  # returned, as a worker process would bury it in a traceback
            return error
        if self.cifar:
            return cifar_view(image, self.imageset.name, self.clip.image_size).numpy()
        if self.seed is None:
            return self.clip.plain_pixels(image).numpy()
        rng = generator(self.seed, "view", self.split, index, view)
        return training_pixels(image, self.clip.image_size, rng).numpy()


def _decoded(views: _Views, batches: Sequence[np.ndarray]) -> Iterator[np.ndarray]:
    """The batches' images, (b, 3, H, W); files are decoded in worker processes where there are many of them.

    Batches travel as arrays through pipes: tensors would need shared memory, of which containers often have too little.
    """
    cores = len(os.sched_getaffinity(0)) if sys.platform == "linux" else 1
    many = sum(map(len, batches)) >= MANY_IMAGES and cores >= MANY_CORES
    workers = min(cores, MOST_WORKERS) if many and isinstance(views.images, (ImageFiles, HubImages)) else 0
    loader = DataLoader(
        views,
        batch_sampler=batches,
        collate_fn=_collate,
        num_workers=workers,
        multiprocessing_context="fork" if workers else None,  # the other ways would copy the weights to every worker
    )
    for batch in loader:
        if isinstance(batch, UserError):
            raise batch
        yield batch


def _collate(images: list[np.ndarray | UserError]) -> np.ndarray | UserError:
    return next((image for image in images if isinstance(image, UserError)), None) or np.stack(images)
