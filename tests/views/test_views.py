# SPDX-License-Identifier: BSD-3-Clause
"""Random views: what they may change, and that each sample is changed by itself."""

import math

import numpy as np
import pytest
import torch
from PIL import Image, ImageEnhance, ImageOps
from sklearn.datasets import load_digits
from torch import nn

from sklearn_scan._inputs import ArraySource, learn_format
from sklearn_scan._views import (
    Affine,
    ColorJitter,
    Cutout,
    FeatureDropout,
    FeatureNoise,
    Flip,
    Geometry,
    Grayscale,
    Invert,
    RandomOperations,
    ResizedCrop,
    Views,
    _color,
    _geometry,
    _strong,
    build_views,
    choose_policy,
)
from sklearn_scan._views._color import luma, negative
from sklearn_scan._views._geometry import make_grid
from sklearn_scan._views._policy import is_harmless, summarize
from sklearn_scan._views._strong import GEOMETRIC_OPERATIONS, STRONG_OPERATIONS

IMAGE_VIEWS = {
    "crop": lambda: Geometry(ResizedCrop()),
    "affine": lambda: Geometry(Affine()),
    "all maps": lambda: Geometry(ResizedCrop(), Affine(), Flip()),
    "jitter": lambda: ColorJitter(p=1),
    "gray": lambda: Grayscale(p=0.5),
    "invert": Invert,
    "operations": RandomOperations,
    "shapes": lambda: RandomOperations(operations=GEOMETRIC_OPERATIONS),
    "cutout": Cutout,
}
IDENTITIES = {
    "geometry": lambda: Geometry(
        ResizedCrop(scale=(1, 1), ratio=1),
        Flip(p=0),
        Affine(degrees=0, shear=0, scale=1, stretch=1, translate=0),
    ),
    "no map": Geometry,
    "jitter": lambda: ColorJitter(0, 0, 0, 0, p=1),
    "no jitter": lambda: ColorJitter(p=0),
    "gray": lambda: Grayscale(p=0),
    "invert": lambda: Invert(p=0),
    "operations": lambda: RandomOperations(n_operations=0),
}
each_view = pytest.mark.parametrize("view", IMAGE_VIEWS.values(), ids=IMAGE_VIEWS)
each_shape = pytest.mark.parametrize(
    "shape", [(1, 8, 8), (3, 9, 6), (4, 5, 12), (1, 1, 1), (3, 1, 1), (3, 1, 7)]
)


@pytest.fixture(autouse=True)
def seed():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


def random_images(*shape, device, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(shape, generator=generator).to(device)


def levels(images, value):
    return torch.full((len(images),), float(value), device=images.device)


def source_of(X, device):
    X = np.ascontiguousarray(X)
    return ArraySource(X, learn_format(X), device)


def n_distinct(batch):
    return len(batch.flatten(1).cpu().unique(dim=0))


# --- every view --------------------------------------------------------------------


@each_view
@each_shape
def test_a_view_keeps_shape_type_device_and_range(view, shape, device):
    images = random_images(64, *shape, device=device)
    before = images.clone()
    seen = view()(images)
    assert seen.shape == images.shape
    assert seen.dtype == images.dtype
    assert seen.device == images.device
    assert torch.isfinite(seen).all()
    assert seen.min() >= -1e-6
    assert seen.max() <= 1 + 1e-6
    assert torch.equal(images, before), "the input was changed"


@pytest.mark.parametrize(
    ("name", "least"),
    [
        ("crop", 250),
        ("affine", 250),
        ("all maps", 250),
        ("jitter", 250),
        ("operations", 200),
        ("shapes", 200),
    ],
)
def test_copies_of_an_image_are_seen_differently(name, least, device):
    copies = random_images(1, 3, 16, 16, device=device).expand(256, -1, -1, -1)
    assert n_distinct(IMAGE_VIEWS[name]()(copies)) > least


def test_copies_of_an_image_get_different_holes(device):
    """Of the few hundred holes that there are in 32 x 32 pixels."""
    copies = random_images(1, 3, 32, 32, device=device).expand(256, -1, -1, -1)
    assert n_distinct(Cutout()(copies)) > 240


def test_about_half_of_the_copies_are_inverted(device):
    copies = random_images(1, 3, 4, 4, device=device).expand(400, -1, -1, -1)
    seen = Invert()(copies)
    inverted = (seen != copies).flatten(1).any(dim=1)
    assert 150 < inverted.sum() < 250
    image = copies[0]
    torch.testing.assert_close(seen[inverted][0], image.min() + image.max() - image)


def test_a_negative_keeps_opacity(device):
    images = torch.zeros(1, 4, 3, 3, device=device)
    images[:, 0, 1, 1], images[:, 3] = 0.6, 1.0
    inverted = images.clone()
    inverted[:, 0] = 0.6 - images[:, 0]
    torch.testing.assert_close(Invert(p=1)(images), inverted)


def test_about_half_of_the_copies_are_flipped_and_of_them_some_turn_gray(device):
    copies = random_images(1, 3, 4, 4, device=device).expand(400, -1, -1, -1)
    flipped = (Geometry(Flip(0.5))(copies) - copies).abs().amax(dim=(1, 2, 3)) > 1e-3
    assert 150 < flipped.sum() < 250
    gray = (Grayscale(0.5)(copies) - copies).abs().amax(dim=(1, 2, 3)) > 1e-3
    assert 150 < gray.sum() < 250
    assert not torch.equal(flipped, gray)


@pytest.mark.parametrize("view", IDENTITIES.values(), ids=IDENTITIES)
@each_shape
def test_a_view_that_may_change_nothing_changes_nothing(view, shape, device):
    images = random_images(8, *shape, device=device)
    torch.testing.assert_close(view()(images), images, rtol=0, atol=1e-5)


@each_view
def test_views_repeat_with_the_seed(view, device):
    images = random_images(32, 3, 8, 8, device=device)
    seen = []
    for s in (1, 1, 2):
        torch.manual_seed(s)
        seen.append(view()(images))
    assert torch.equal(seen[0], seen[1])
    assert not torch.equal(seen[0], seen[2])


def test_views_run_without_gradients_and_in_float32(device):
    images = random_images(4, 3, 8, 8, device=device).requires_grad_()
    views = Views(Geometry(Affine()), ColorJitter(p=1))
    with torch.autocast(torch.device(device).type, torch.bfloat16):
        seen = views(images)
    assert not seen.requires_grad
    assert seen.dtype == torch.float32


# --- geometry ----------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 5, 9)])
def test_a_flip_mirrors_left_and_right(shape, device):
    images = random_images(8, *shape, device=device)
    flipped = Geometry(Flip(p=1))(images)
    torch.testing.assert_close(flipped, images.flip(-1), rtol=0, atol=1e-5)


def shift_one_pixel(images):
    """As a map: what was one pixel to the right comes here."""
    matrix = torch.eye(3, device=images.device).repeat(len(images), 1, 1)
    matrix[:, 0, 2] = 2 / images.shape[-1]
    return matrix


def test_maps_are_applied_in_the_order_given(device):
    images = torch.zeros(1, 1, 4, 8, device=device)
    images[..., 1, 2] = 1
    left_then_mirrored = Geometry(shift_one_pixel, Flip(p=1))(images)
    mirrored_then_left = Geometry(Flip(p=1), shift_one_pixel)(images)
    assert left_then_mirrored[0, 0, 1].argmax() == 6
    assert mirrored_then_left[0, 0, 1].argmax() == 4


@pytest.mark.parametrize("shape", [(8, 8), (8, 12), (12, 8), (8, 20)])
def test_a_quarter_turn_is_exact_also_on_a_page_that_is_not_square(
    monkeypatch, shape, device
):
    """A square in the middle of the page stays a square."""
    monkeypatch.setattr(
        _geometry,
        "uniform",
        lambda batch, low, high: torch.full((len(batch),), float(high)).to(batch),
    )
    top, left = (shape[0] - 8) // 2, (shape[1] - 8) // 2
    middle = (..., slice(top, top + 8), slice(left, left + 8))
    images = torch.zeros(2, 1, *shape, device=device)
    images[middle] = random_images(2, 1, 8, 8, device=device)
    turn = Affine(degrees=90, shear=0, scale=1, stretch=1, translate=0)
    expected = torch.zeros_like(images)
    expected[middle] = images[middle].rot90(1, dims=(-2, -1))
    torch.testing.assert_close(Geometry(turn)(images), expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize("shape", [(30, 30), (30, 50), (50, 30)])
@pytest.mark.parametrize("level", [0, 1])
def test_a_rotated_square_is_as_large_and_as_wide_as_high(shape, level, device):
    images = torch.zeros(1, 1, *shape, device=device)
    middle = [slice(side // 2 - 6, side // 2 + 6) for side in shape]
    images[0, 0][tuple(middle)] = 1
    mass = _strong.rotate(images, levels(images, level))[0, 0].double().cpu()
    assert mass.sum().item() == pytest.approx(144, rel=0.01)
    y, x = (torch.arange(side, dtype=torch.double) for side in shape)
    y, x = y[:, None] - (shape[0] - 1) / 2, x[None] - (shape[1] - 1) / 2
    moments = [(mass * m).sum().item() / 144 for m in (y * y, x * x, y * x)]
    # Of a square with sides of 12 pixels, at any angle: (12 ** 2 - 1) / 12.
    assert moments == pytest.approx([143 / 12, 143 / 12, 0], abs=0.3)
    assert mass[:, shape[1] // 2].ceil().sum() > 12, "not rotated"


@pytest.mark.parametrize("level", [0, 1])
def test_rotate_is_that_of_pillow(level, device):
    """Up to its border: Pillow fills with black, and this with the border's median."""
    images = torch.zeros(1, 1, 24, 36, device=device)
    images[..., 6:18, 9:27] = random_images(1, 1, 12, 18, device=device)
    got = _strong.rotate(images, levels(images, level))[0, 0].cpu().numpy()
    page = Image.fromarray(images[0, 0].cpu().numpy())
    expected = [
        np.asarray(page.rotate(angle, Image.Resampling.BILINEAR)) for angle in (-30, 30)
    ]
    # Which of the two signs is clockwise does not matter.
    error = [np.abs(got - e).max() for e in expected]
    assert min(error) < 0.02 < 0.2 < max(error)


@pytest.mark.parametrize(
    ("operation", "axis"), [(_strong.translate_x, -1), (_strong.translate_y, -2)]
)
@pytest.mark.parametrize("level", [0, 1])
def test_a_translation_is_by_ten_percent_of_the_side(operation, axis, level, device):
    images = torch.zeros(1, 1, 20, 40, device=device)
    images[..., 10, 20] = 1
    moved = operation(images, levels(images, level))
    pixels = {-1: 4, -2: 2}[axis] * (1 - 2 * level)
    torch.testing.assert_close(moved, images.roll(pixels, axis), rtol=0, atol=1e-4)


@pytest.mark.parametrize("shape", [(20, 20), (20, 40), (40, 20)])
@pytest.mark.parametrize("along_rows", [True, False])
def test_a_shear_is_by_a_tenth_of_a_pixel_per_pixel(along_rows, shape, device):
    """Also on a page that is not square."""
    line = torch.zeros(1, 1, *shape, device=device)
    axis = 3 if along_rows else 2
    middle = shape[axis - 2] // 2
    line.select(axis, middle).fill_(1)
    operation = _strong.shear_x if along_rows else _strong.shear_y
    seen = operation(line, levels(line, 1))
    if not along_rows:
        seen = seen.transpose(2, 3)
    where = (seen[0, 0] * torch.arange(seen.shape[3], device=device)).sum(dim=1)
    steps = where[2:-2].diff().abs()
    assert steps.mean().item() == pytest.approx(0.1, abs=0.01)


@pytest.mark.parametrize("ground", [0.0, 0.3, 1.0])
def test_the_page_goes_on_beyond_its_border(ground, device):
    images = torch.full((32, 2, 9, 12), ground, device=device)
    images[:, :, 3:6, 4:8] = 0.6
    seen = Geometry(Affine(translate=0.3))(images)
    low, high = min(ground, 0.6), max(ground, 0.6)
    assert seen.min() >= low - 1e-5
    assert seen.max() <= high + 1e-5


def test_a_crop_shows_a_part_of_the_share_asked_for(device):
    ramp = torch.linspace(-1, 1, 64, device=device)
    columns, rows = ramp.expand(64, 64), ramp[:, None].expand(64, 64)
    images = torch.stack([columns, rows]).expand(300, 2, 64, 64)
    seen = Geometry(ResizedCrop(scale=(0.3, 0.6), ratio=1.2))(images)
    extent = seen.amax(dim=(2, 3)) - seen.amin(dim=(2, 3))
    area = (extent / 2).prod(dim=1)
    ratio = extent[:, 0] / extent[:, 1]
    # The outermost pixels that are read may lie half a pixel inside the crop.
    assert 0.27 < area.min() < 0.35
    assert 0.55 < area.max() < 0.61
    assert 0.81 < ratio.min() < 0.88
    assert 1.14 < ratio.max() < 1.23
    assert seen.abs().max() <= 1 + 1e-5, "a crop looked beyond the border"


# --- colour ------------------------------------------------------------------------


def muted(n, device):
    """Colours that no rotation of the hue takes out of [0, 1]."""
    return 0.5 + 0.1 * (random_images(n, 3, 6, 6, device=device) - 0.5)


@pytest.mark.parametrize("kwargs", [{"hue": 0.5}, {"saturation": 0.9}])
def test_hue_and_saturation_keep_the_luma(kwargs, device):
    images = muted(32, device)
    off = {"brightness": 0, "contrast": 0, "saturation": 0, "hue": 0, "p": 1}
    seen = ColorJitter(**off | kwargs)(images)
    torch.testing.assert_close(luma(seen), luma(images), rtol=0, atol=1e-5)
    assert (seen - images).abs().mean() > 1e-3


def test_half_a_turn_of_the_hue_is_the_opposite_colour(monkeypatch, device):
    monkeypatch.setattr(
        _color,
        "uniform",
        lambda batch, low, high: torch.full((len(batch),), float(high)).to(batch),
    )
    images = muted(4, device)
    seen = ColorJitter(0, 0, 0, hue=0.5, p=1)(images)
    opposite = 2 * luma(images) - images
    torch.testing.assert_close(seen, opposite, rtol=0, atol=1e-4)


def test_brightness_scales_and_contrast_keeps_the_mean(device):
    images = muted(32, device)
    brighter = ColorJitter(0.4, 0, 0, 0, p=1)(images)
    factor = brighter / images
    assert factor.std(dim=(1, 2, 3)).max() < 1e-5
    assert factor.min() < 0.75
    assert factor.max() > 1.25
    seen = ColorJitter(0, 0.4, 0, 0, p=1)(images)
    mean = [luma(batch).mean(dim=(1, 2, 3)) for batch in (seen, images)]
    torch.testing.assert_close(*mean, rtol=0, atol=1e-5)
    assert not torch.allclose(seen, images, atol=1e-3)


@pytest.mark.parametrize("n_channels", [1, 2, 4])
def test_jitter_scales_channels_alike_where_they_are_no_colours(n_channels, device):
    images = 0.5 + 0.1 * random_images(16, n_channels, 4, 4, device=device)
    seen = ColorJitter(0.4, 0, 0.9, 0.5, p=1)(images)
    assert (seen / images).std(dim=(1, 2, 3)).max() < 1e-5


def test_gray_is_what_pillow_calls_l(device):
    pixels = np.random.default_rng(0).integers(0, 256, (9, 7, 3), dtype=np.uint8)
    images = torch.tensor(pixels / 255).float().permute(2, 0, 1)[None].to(device)
    gray = Grayscale(p=1)(images)[0].cpu().numpy() * 255
    expected = np.asarray(Image.fromarray(pixels).convert("L"))
    assert np.abs(gray - expected).max() < 1.01


# --- the operations, by Pillow -----------------------------------------------------


def picture(seed, size=40):
    """A picture of few tones and many ties, as equalize is about."""
    rng = np.random.default_rng(seed)
    return (40 + rng.gamma(2, 20, (size, size + 5, 3))).clip(0, 220).astype(np.uint8)


def by_pillow(operation, page):
    return np.asarray(operation(Image.fromarray(page))).astype(float)


def by_us(operation, page, level, device):
    images = torch.tensor(page).to(device).float().div(255).permute(2, 0, 1)[None]
    seen = operation(images, levels(images, level))
    return seen[0].permute(1, 2, 0).double().cpu().numpy() * 255


def assert_same_picture(got, expected, tolerance):
    assert np.abs(got - expected).max() <= tolerance + 1e-3


@pytest.mark.parametrize("seed", range(3))
def test_autocontrast_is_that_of_pillow(seed, device):
    """Within one of 255 levels: Pillow rounds down."""
    page = picture(seed)
    expected = by_pillow(ImageOps.autocontrast, page)
    assert_same_picture(by_us(_strong.autocontrast, page, 0, device), expected, 1)


@pytest.mark.parametrize("seed", range(3))
def test_equalize_is_that_of_pillow(seed, device):
    """Within a few levels, on 180 pixels per level.

    Pillow counts in whole steps of a 255th of the pixels, rounded down, which stretches
    its scale, and clips at 255; here counts are exact.
    """
    page = picture(seed, size=212)
    expected = by_pillow(ImageOps.equalize, page)
    assert_same_picture(by_us(_strong.equalize, page, 0, device), expected, 3)


def test_equalize_works_on_images_of_few_pixels(device):
    """Where Pillow does nothing, having fewer pixels than levels."""
    page = np.array([[10, 20], [30, 40]], dtype=np.uint8)[..., None]
    got = by_us(_strong.equalize, page, 0, device)
    assert_same_picture(got[..., 0], [[0, 85], [170, 255]], 0)


@pytest.mark.parametrize("level", [0.25, 0.5, 0.75])
def test_solarize_is_that_of_pillow(level, device):
    page = picture(0)
    threshold = math.ceil(255 * level)
    expected = by_pillow(lambda image: ImageOps.solarize(image, threshold), page)
    assert_same_picture(by_us(_strong.solarize, page, level, device), expected, 0)


@pytest.mark.parametrize("bits", [4, 5, 6, 7, 8])
def test_posterize_is_that_of_pillow(bits, device):
    page = np.arange(256, dtype=np.uint8).reshape(16, 16, 1).repeat(3, axis=2)
    expected = by_pillow(lambda image: ImageOps.posterize(image, bits), page)
    got = by_us(_strong.posterize, page, (bits - 4) / 4, device)
    assert_same_picture(got, expected, 0)


@pytest.mark.parametrize(
    ("operation", "enhance"),
    [
        (_strong.color, ImageEnhance.Color),
        (_strong.contrast, ImageEnhance.Contrast),
        (_strong.brightness, ImageEnhance.Brightness),
        (_strong.sharpness, ImageEnhance.Sharpness),
    ],
)
@pytest.mark.parametrize("level", [0, 0.5, 1])
def test_fading_is_that_of_pillow(operation, enhance, level, device):
    """Within the rounding of Pillow's two steps; a share of 0.05 to 0.95 is left."""
    page = picture(1)
    left = 0.05 + 0.9 * level
    expected = by_pillow(lambda image: enhance(image).enhance(left), page)
    assert_same_picture(by_us(operation, page, level, device), expected, 1.6)


@pytest.mark.parametrize("operation", STRONG_OPERATIONS, ids=lambda f: f.__name__)
@pytest.mark.parametrize("value", [0.0, 0.4, 1.0])
def test_operations_leave_a_constant_image_constant(operation, value, device):
    images = torch.full((3, 3, 6, 8), value, device=device)
    seen = operation(images, torch.tensor([0, 0.5, 1], device=device))
    assert torch.isfinite(seen).all()
    assert seen.flatten(2).std(dim=2).max() < 1e-5


def test_each_image_gets_its_own_operation(device):
    def black(images, level):
        return torch.zeros_like(images)

    def white(images, level):
        return torch.ones_like(images)

    images = torch.full((200, 1, 2, 2), 0.5, device=device)
    seen = RandomOperations(1, operations=(black, white))(images)
    assert seen.flatten(1).std(dim=1).max() == 0
    assert 60 < seen[:, 0, 0, 0].sum() < 140


@pytest.mark.parametrize("shape", [(20, 20), (20, 33)])
def test_cutout_erases_one_square_to_the_mean(shape, device):
    images = random_images(200, 3, *shape, device=device)
    seen = Cutout(size=0.5)(images)
    changed = (seen != images).all(dim=1)
    mean = images.mean(dim=(2, 3), keepdim=True).expand_as(images)
    erased = changed[:, None].expand_as(images)
    assert torch.equal(seen[erased], mean[erased])
    assert torch.equal(seen[~erased], images[~erased])
    height = changed.any(dim=2).sum(dim=1)
    width = changed.any(dim=1).sum(dim=1)
    assert torch.equal(changed.sum(dim=(1, 2)), height * width), "not a rectangle"
    assert height.min() >= 1
    assert height.max() == width.max() == 10
    cut_by_the_edge = changed[:, (0, -1)].any(dim=(1, 2))
    cut_by_the_edge |= changed[:, :, (0, -1)].any(dim=(1, 2))
    assert torch.equal(height[~cut_by_the_edge], width[~cut_by_the_edge])


# --- the same to the bit, whatever the order on the device ---------------------------


@pytest.mark.parametrize("n", [1, 2, 7, 50])
@pytest.mark.parametrize("operations", [STRONG_OPERATIONS, GEOMETRIC_OPERATIONS])
def test_sorting_images_by_operation_changes_none_of_them(n, operations, device):
    """As applying each operation to the images that have drawn it, one by one."""
    images = random_images(n, 3, 9, 12, device=device)
    torch.manual_seed(3)
    seen = RandomOperations(operations=operations)(images)
    torch.manual_seed(3)
    expected = images.clone()
    for _ in range(4):
        choice = torch.randint(len(operations), (n,))
        level = torch.rand(n, device=device)
        for k, operation in enumerate(operations):
            chosen = (choice == k).nonzero().squeeze(1).to(device)
            if len(chosen):
                expected[chosen] = operation(expected[chosen], level[chosen])
    # But for the rounding of where images are read, which goes by their number.
    assert torch.allclose(seen, expected.clamp(0, 1), atol=1e-4)


@pytest.mark.parametrize("shape", [(1, 1), (1, 4), (5, 3), (8, 8), (9, 6)])
def test_what_lies_outside_is_the_median_of_the_border(shape, device):
    images = random_images(16, 2, *shape, device=device)
    edges = [images[:, :, 0], images[:, :, -1], images[..., 0], images[..., -1]]
    expected = torch.cat(edges, dim=2).cpu().median(dim=2).values
    assert torch.equal(_geometry.border_median(images).squeeze(3, 2).cpu(), expected)


def test_operations_of_the_user_are_applied_with_ours(device):
    def invert(images, level):
        return 1 - images

    images = random_images(20, 1, 4, 4, device=device)
    twice = RandomOperations(n_operations=2, operations=(invert,))(images)
    torch.testing.assert_close(twice, images)
    mixed = RandomOperations(operations=(_strong.rotate, invert, _strong.identity))
    assert mixed(images).shape == images.shape


def test_strong_views_ask_only_the_generator_of_the_host_for_operations(device):
    """So that the seed determines them, whatever the default device is."""
    images = random_images(8, 1, 4, 4, device=device)
    with torch.device("meta"):
        seen = RandomOperations()(images)
    assert seen.device == images.device


# --- rows --------------------------------------------------------------------------


def test_noise_is_in_units_of_the_spread_of_each_feature(device):
    rows = torch.randn(4000, 3, device=device) * torch.tensor([1.0, 100.0, 0.0]).to(
        device
    )
    noise = (FeatureNoise(0.1)(rows) - rows).std(dim=0).tolist()
    assert noise == pytest.approx([0.1, 10, 0], rel=0.1)
    assert torch.equal(FeatureNoise(0)(rows), rows)


def test_dropout_takes_values_that_occur_in_the_same_column(device):
    rows = torch.arange(600.0, device=device).view(200, 3)
    seen = FeatureDropout(0.3)(rows)
    assert torch.equal(seen % 3, rows % 3)
    assert 0.2 < (seen != rows).float().mean() < 0.4
    assert torch.equal(FeatureDropout(0)(rows), rows)


@pytest.mark.parametrize("view", [FeatureNoise, FeatureDropout])
def test_copies_of_a_row_in_a_batch_are_seen_differently(view, device):
    rows = torch.randn(256, 20, device=device)
    rows[216:] = rows[0]
    assert n_distinct(view()(rows)[216:]) > 25


# --- which views -------------------------------------------------------------------


def wedges(n=300, side=16):
    """Photographs, as it were: busy up to the border, dark left and bright right."""
    rng = np.random.default_rng(0)
    ramp = np.linspace(0, 4, side) * rng.uniform(0.8, 1.2, (n, 1))
    return ramp[:, None] + rng.normal(scale=0.2, size=(n, side, side))


def patches_of_one_colour(n=400, side=6):
    """Each image is of one vivid colour, which is all there is to tell."""
    hue = np.random.default_rng(0).uniform(0, 2 * np.pi, n)
    colour = 0.5 + 0.5 * np.cos(hue[:, None] + np.array([0, 2, 4]) * np.pi / 3)
    return np.broadcast_to(colour[:, None, None], (n, side, side, 3)).copy()


def test_digits_are_not_mirrored(device):
    policy = choose_policy(source_of(load_digits().images, device))
    assert policy == ("affine", "light")


def test_a_set_is_mirrored_if_it_holds_the_mirror_images(device):
    images = wedges()
    assert "flip" not in choose_policy(source_of(images, device))
    both = np.concatenate([images, images[:, :, ::-1]])
    assert "flip" in choose_policy(source_of(both, device))


def invert(images, chosen):
    return np.where(chosen[:, None, None], images.max() - images, images)


def of_range(images, dtype, most):
    return (images / images.max() * most).astype(dtype)


@pytest.mark.parametrize("n", [200, 1797])
@pytest.mark.parametrize(
    ("dtype", "most"), [(float, 16), (float, 0.6), (np.uint8, 200), (np.uint16, 3000)]
)
def test_objects_are_inverted_if_the_set_holds_both_kinds(n, dtype, most, device):
    images = of_range(load_digits().images[:n], dtype, most)
    assert "invert" not in choose_policy(source_of(images, device))
    chosen = np.random.default_rng(0).random(n) < 0.5
    both = source_of(invert(images, chosen), device)
    assert choose_policy(both) == ("affine", "light", "invert")
    assert choose_policy(both, strong=True) == ("affine", "light", "invert")


def paint(images):
    """Draw each image in one random colour on another."""
    random = np.random.default_rng(0)
    ground, ink = random.random((2, len(images), 1, 1, 3))
    return ground + (ink - ground) * images[..., None] / images.max()


def test_colours_that_hide_what_is_shown_are_often_taken_away(device):
    images = load_digits().images
    painted = choose_policy(source_of(paint(images), device))
    assert painted[-2:] == ("gray", "invert")
    gray = np.repeat(images[..., None], 3, axis=-1)
    assert choose_policy(source_of(gray, device)) == ("affine", "color")


def test_colours_that_hide_pictures_are_often_taken_away(device):
    noise = np.random.default_rng(0).random((200, 8, 8, 3))
    assert choose_policy(source_of(noise, device)) == ("crop", "flip", "gray")
    policy = choose_policy(source_of(noise, device), strong=True)
    assert policy == ("flip", "operations", "cutout")


def test_half_of_the_images_lose_their_colour_by_gray(device):
    copies = random_images(1, 3, 4, 4, device=device).expand(400, -1, -1, -1)
    images = copies.permute(0, 2, 3, 1).cpu().numpy()
    seen = build_views(("gray",), source_of(images, device))(copies)
    gray = (seen == seen[:, :1]).flatten(1).all(dim=1)
    assert 150 < gray.sum() < 250
    same = (seen == copies).flatten(1).all(dim=1)
    assert same.sum() < 80, "colours do not change"


def test_a_negative_of_what_fills_its_frame_is_not_asked_for(device):
    frames = np.random.default_rng(0).random((200, 8, 8))
    source = source_of(frames, device)
    assert is_harmless(summarize(source)[0], negative)
    assert choose_policy(source) == ("crop", "flip", "light")


def test_the_order_of_the_images_decides_nothing(device):
    chosen = np.random.default_rng(0).random(1797) < 0.25
    images = invert(load_digits().images, chosen)
    last = np.argsort(chosen, kind="stable")
    for order in (last, last[::-1]):
        assert "invert" in choose_policy(source_of(images[order], device))


def test_what_differs_by_colour_keeps_its_colour(device):
    images = patches_of_one_colour()
    assert choose_policy(source_of(images, device))[-1] == "light"


def test_negatives_are_not_drawn_where_colour_tells(device):
    """Squares of six pure colours, each on the opposite one."""
    random = np.random.default_rng(0)
    colours = np.array([list(np.binary_repr(i, 3)) for i in range(1, 7)], dtype=float)
    ground = colours[random.integers(6, size=300)][:, None, None]
    images = np.broadcast_to(ground, (300, 12, 12, 3)).copy()
    images[:, 4:8, 4:8] = 1 - ground
    source = source_of(images + random.normal(0, 0.05, images.shape), device)
    assert is_harmless(summarize(source)[0], negative)
    assert choose_policy(source) == ("affine", "flip", "light")


def test_strong_operations_on_full_frames_spare_the_colour_that_tells(device):
    hue = patches_of_one_colour(side=12)
    texture = np.random.default_rng(0).uniform(0.9, 1, hue.shape)
    policy = choose_policy(source_of(hue * texture, device), strong=True)
    assert policy[-2:] == ("shapes", "cutout")
    assert "crop" not in policy


def test_colour_is_free_where_the_set_is_gray(device):
    gray = np.random.default_rng(0).random((200, 8, 8, 1)).repeat(3, axis=3)
    policy = choose_policy(source_of(gray, device), strong=True)
    assert policy[-2:] == ("operations", "cutout")
    assert choose_policy(source_of(gray, device))[-1] == "color"


@pytest.mark.parametrize("n_channels", [1, 4])
def test_only_three_channels_are_colours(n_channels, device):
    images = np.random.default_rng(0).random((60, 8, 8, n_channels))
    assert choose_policy(source_of(images, device))[-1] == "light"


def test_objects_on_a_plain_ground_are_moved_and_full_frames_are_cropped(device):
    frames = np.random.default_rng(0).random((50, 12, 12))
    objects = np.ones((50, 12, 12))
    objects[:, 4:8, 4:8] = frames[:, 4:8, 4:8]
    assert choose_policy(source_of(objects, device))[0] == "affine"
    assert choose_policy(source_of(frames, device))[0] == "crop"


@pytest.mark.parametrize("n", [1, 2, 10])
def test_duplicates_say_nothing_so_nothing_is_called_harmless(n, device):
    images = torch.ones(n, 1, 4, 4, device=device)
    assert not is_harmless(images, lambda x: x.flip(-1))


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_constant_images_have_a_policy(value, device):
    policy = choose_policy(source_of(np.full((5, 4, 4), value), device), strong=True)
    assert policy == ("affine", "light")


@pytest.mark.parametrize("views", ["auto", "strong", "affine", "photo", "none"])
@pytest.mark.parametrize("strong", [False, True])
@pytest.mark.parametrize("n_channels", [1, 3])
def test_every_policy_builds_views(views, strong, n_channels, device):
    source = source_of(random_images(40, 8, 6, n_channels, device="cpu"), device)
    batch = source.read(torch.arange(40))
    seen = build_views(views, source, strong=strong)(batch)
    assert seen.shape == batch.shape
    assert torch.equal(seen, batch) == (views == "none")


@pytest.mark.parametrize("views", ["auto", "vector", "none"])
def test_rows_have_views(views, device):
    source = source_of(np.random.default_rng(0).normal(size=(40, 5)), device)
    batch = source.read(torch.arange(40))
    seen = build_views(views, source)(batch)
    assert seen.shape == batch.shape
    assert torch.equal(seen, batch) == (views == "none")


class Shifted(nn.Module):
    """A user's view, which is told the shape of a sample."""

    def __init__(self, shape):
        super().__init__()
        self.shift = float(len(shape))

    def forward(self, batch):
        return batch + self.shift


@pytest.mark.parametrize("factory", [Shifted, lambda shape: Shifted(shape)])
@pytest.mark.parametrize(("shape", "shift"), [((6, 4, 4), 3), ((6, 4), 1)])
def test_a_factory_of_views_is_given_the_shape(factory, shape, shift, device):
    source = source_of(np.zeros(shape), device)
    batch = source.read(torch.arange(6))
    seen = build_views(factory, source)(batch)
    assert torch.equal(seen, torch.full_like(batch, shift))


@pytest.mark.parametrize(
    ("views", "shape"),
    [("vector", (6, 4, 4)), ("photo", (6, 4)), ("strong", (6, 4)), ("affine", (6, 4))],
)
def test_views_of_the_other_kind_are_refused(views, shape, device):
    source = source_of(np.zeros(shape), device)
    with pytest.raises(ValueError, match=f"views='{views}' does not go with samples"):
        build_views(views, source)


@pytest.mark.parametrize(("height", "width"), [(1, 1), (8, 8), (5, 9)])
def test_the_grid_is_that_of_torch(height, width):
    matrix = torch.randn(4, 3, 3)
    expected = torch.nn.functional.affine_grid(
        matrix[:, :2], (4, 1, height, width), align_corners=False
    )
    assert torch.allclose(make_grid(matrix, height, width), expected, atol=1e-5)
