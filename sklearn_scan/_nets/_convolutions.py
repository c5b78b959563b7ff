# SPDX-License-Identifier: BSD-3-Clause
"""Compute some convolutions as products of matrices, which is faster on a CPU.

Tiny feature maps: in the last layers of a network, the kernel often reaches every pixel
from every other, as one of 3 x 3 does in 2 x 2 pixels. The convolution is then a linear
layer, and as such it skips the products with the padding, which are more than half.

Gradients of weights: CPUs with AMX multiply matrices of bfloat16 in tiles, many times
faster than others. Torch's gradient of the weights hardly benefits where feature maps
are small and channels are many. Here it is one product: the neighbourhoods of all
pixels, times the gradients of the output.

Results equal those of torch up to rounding.
"""

from contextlib import nullcontext

import torch
from torch.nn.functional import linear, pad
from torch.overrides import TorchFunctionMode

from sklearn_scan._devices import has_tiles

# Below this, making the matrix of tiny feature maps takes longer than it saves.
_FEWEST_IMAGES = 16
# The most entries of that matrix, which bounds its memory, and the only side of a
# kernel that was measured (`benchmarks/speed.py --parts convolutions`).
_LARGEST_MATRIX, _SIDE = 2**24, 3
# The gradient of the weights is a product where the output has at most one pixel per
# four channels of the input, and at most 49 pixels (7 x 7, the last of a network for
# photographs); measured there as well.
_CHANNELS_PER_PIXEL, _MOST_PIXELS = 4, 49
# Numbers in the neighbourhoods that are multiplied at a time.
_MOST_UNFOLDED = 2**26
# Types that autocast casts to its own.
_CASTABLE = (torch.float32, torch.bfloat16, torch.float16)


def fast_convolutions(batch):
    """Return a context in which convolutions learn faster from a batch.

    Inside it, `torch.nn.Conv2d` uses those of this module where they are faster than
    torch's. It does nothing for rows, and on devices other than the CPU.
    """
    is_convolved = batch.ndim == 4 and batch.device.type == "cpu"
    return _FastConvolutions() if is_convolved else nullcontext()


class _FastConvolutions(TorchFunctionMode):
    """Replaces convolutions by products of matrices where these are faster."""

    def __torch_function__(self, function, types, args=(), kwargs=None):
        if function is torch.conv2d and not kwargs:
            convolve = choose_convolution(*args)
            if convolve is not None:
                images, weight, _, stride, *_ = args
                dtype = _find_dtype(images, weight)
                return convolve(images.to(dtype), weight.to(dtype), stride)
        return function(*args, **(kwargs or {}))


def choose_convolution(
    images, weight, bias=None, stride=1, padding=0, dilation=1, groups=1, /
):
    """Return a faster function for a convolution, if there is one.

    It takes the arguments of `torch.conv2d`, as `torch.nn.Conv2d` passes them.

    Returns
    -------
    convolve : callable or None
        ``f(images, weight, stride)``, of images and weights of one type; None to leave
        it to torch.
    """
    if torch.compiler.is_compiling() or not _is_plain(
        images, weight, bias, stride, padding, dilation, groups
    ):
        return None
    dtype = _find_dtype(images, weight)
    if dtype is None:
        return None
    n_images, n_in, height, width = images.shape
    n_out, _, side, _ = weight.shape
    n_pixels = -(-height // stride[0]) * -(-width // stride[1])
    is_tiny = side == _SIDE and max(height, width) <= side // 2 + 1
    matrix_size = n_pixels * n_out * height * width * n_in
    if is_tiny and n_images >= _FEWEST_IMAGES and matrix_size <= _LARGEST_MATRIX:
        return convolve_tiny
    is_suitable = n_pixels <= min(n_in // _CHANNELS_PER_PIXEL, _MOST_PIXELS)
    if is_suitable and dtype is torch.bfloat16 and has_tiles():
        return convolve_with_product
    return None


def _is_plain(images, weight, bias, stride, padding, dilation, groups):
    """Say whether a convolution is of a kind that is replaced.

    That is on the CPU, with the channels last, a square kernel of odd side `k`, padding
    ``k // 2``, stride 1 or 2, and neither bias, groups nor dilation.
    """
    if not _is_dense(images) or not _is_dense(weight):
        return False
    _, n_in, height, width = weight.shape
    return (
        bias is None
        and groups == 1
        and n_in == images.shape[1]
        and dilation == (1, 1)
        and stride in ((1, 1), (2, 2))
        and height == width
        and height % 2 == 1
        and padding == (height // 2, width // 2)
        # Torch returns another layout for others.
        and images.stride(1) == 1
        and images.stride(2) >= images.stride(3)
    )


def _is_dense(tensor):
    """Say whether a tensor is one of torch's own, with four axes, on the CPU.

    Subclasses may define a convolution of their own.
    """
    return (
        type(tensor) in (torch.Tensor, torch.nn.Parameter)
        and tensor.layout is torch.strided
        and tensor.ndim == 4
        and tensor.device.type == "cpu"
    )


def _find_dtype(images, weight):
    """Return the type in which torch would convolve; None for types left to torch."""
    if images.dtype not in _CASTABLE or weight.dtype not in _CASTABLE:
        return None
    if torch.is_autocast_enabled("cpu"):
        return torch.get_autocast_dtype("cpu")
    return images.dtype if images.dtype is weight.dtype else None


def convolve_tiny(images, weight, stride):
    """Convolve as a linear layer from all pixels of an image to all pixels.

    Parameters
    ----------
    images : Tensor of shape (b, n_in, h, w)
        Of at most ``k // 2 + 1`` rows and columns, with channels last.
    weight : Tensor of shape (n_out, n_in, k, k)
        Of odd `k`.
    stride : tuple of two int
        The padding is ``k // 2``.

    Returns
    -------
    features : Tensor of shape (b, n_out, h_out, w_out)
    """
    return _TinyConvolution.apply(images, weight, stride)


def convolve_with_product(images, weight, stride):
    """Convolve as torch does, with a product as the gradient of the weights."""
    return _Convolution.apply(images, weight, stride)


class _Convolution(torch.autograd.Function):
    """The convolution of torch, with a product as the gradient of its weights."""

    generate_vmap_rule = True

    @staticmethod
    def forward(images, weight, stride):
        return torch.conv2d(images, weight, None, stride, weight.shape[2] // 2)

    @staticmethod
    def setup_context(ctx, inputs, output):
        # Save what torch saves: checkpointing may repeat the forward pass outside of
        # the context, with torch's convolution.
        images, weight, ctx.stride = inputs
        ctx.save_for_backward(images, weight)

    @staticmethod
    def backward(ctx, gradient):
        images, weight = ctx.saved_tensors
        needs_images, needs_weight, _ = ctx.needs_input_grad
        of_images = of_weight = None
        with torch.autocast("cpu", enabled=False):
            if needs_images:
                of_images = torch.nn.grad.conv2d_input(
                    images.shape, weight, gradient, ctx.stride, weight.shape[2] // 2
                )
            if needs_weight:
                shape = weight.shape
                of_weight = multiply_gradient(images, gradient, shape, ctx.stride)
        return of_images, of_weight, None


class _TinyConvolution(_Convolution):
    """The same for tiny feature maps, as a linear layer."""

    @staticmethod
    def forward(images, weight, stride):
        matrix = _spread(weight, images.shape[2:], stride)
        features = linear(_flatten(images), matrix)
        n_rows = -(-images.shape[2] // stride[0])
        # Detach: torch refuses to change a view in place that is of a function.
        return _unflatten(features, n_rows, len(weight)).detach()

    @staticmethod
    def backward(ctx, gradient):
        images, weight = ctx.saved_tensors
        needs_images, needs_weight, _ = ctx.needs_input_grad
        size, gradient = images.shape[2:], _flatten(gradient)
        of_images = of_weight = None
        with torch.autocast("cpu", enabled=False):
            if needs_images:
                of_pixels = gradient @ _spread(weight, size, ctx.stride)
                of_images = _unflatten(of_pixels, size[0], images.shape[1])
            if needs_weight:
                of_matrix = gradient.T @ _flatten(images)
                of_weight = _gather(of_matrix, weight.shape, size, ctx.stride)
        return of_images, of_weight, None


def _flatten(images):
    """Return images (b, c, h, w) as rows (b, h * w * c)."""
    return images.permute(0, 2, 3, 1).flatten(1)


def _unflatten(rows, height, n_channels):
    """Return rows (b, h * w * c) as images (b, c, h, w)."""
    return rows.unflatten(1, (height, -1, n_channels)).permute(0, 3, 1, 2)


def _list_slices(size, middle, stride):
    """Return which part of a kernel lies on the image, for each pixel of the output."""
    height, width = size
    return [
        (slice(middle - y, middle - y + height), slice(middle - x, middle - x + width))
        for y in range(0, height, stride[0])
        for x in range(0, width, stride[1])
    ]


def _spread(weight, size, stride):
    """Return the matrix (h_out * w_out * n_out, h * w * n_in) of a tiny convolution."""
    kernel = weight.permute(0, 2, 3, 1)
    slices = _list_slices(size, weight.shape[2] // 2, stride)
    parts = [kernel[:, rows, columns] for rows, columns in slices]
    return torch.stack(parts).flatten(2).flatten(0, 1)


def _gather(matrix, shape, size, stride):
    """Add up the entries of a matrix that are of one weight: `_spread`, transposed.

    In float32 at least.
    """
    n_out, n_in, side, _ = shape
    slices = _list_slices(size, side // 2, stride)
    parts = matrix.unflatten(0, (-1, n_out)).unflatten(2, (*size, n_in))
    dtype = torch.promote_types(matrix.dtype, torch.float32)
    total = matrix.new_zeros(n_out, side, side, n_in, dtype=dtype)
    for part, (rows, columns) in zip(parts, slices, strict=True):
        total[:, rows, columns] += part
    return total.to(matrix.dtype).permute(0, 3, 1, 2)


def multiply_gradient(images, gradient, shape, stride):
    """Return the gradient of the weights of a convolution, as a product of matrices.

    Parameters
    ----------
    images : Tensor of shape (b, n_in, h, w)
        Input of the convolution.
    gradient : Tensor of shape (b, n_out, h_out, w_out)
        Gradient of its output.
    shape : tuple (n_out, n_in, k, k)
        That of the weights.
    stride : tuple of two int
        Of the convolution; its padding is ``k // 2``.

    Returns
    -------
    gradient : Tensor of shape (n_out, n_in, k, k)
    """
    n_out, n_in, side, _ = shape
    n_per_image = gradient.shape[2] * gradient.shape[3] * n_in * side**2
    at_a_time = max(1, _MOST_UNFOLDED // n_per_image)
    products = [
        of_part.permute(0, 2, 3, 1).reshape(-1, n_out).T @ _unfold(part, side, stride)
        for part, of_part in zip(
            images.split(at_a_time), gradient.split(at_a_time), strict=True
        )
    ]
    total = products[0] if len(products) == 1 else _add(products)
    return total.view(n_out, side, side, n_in).permute(0, 3, 1, 2)


def _add(parts):
    """Add up in float32, or in the type of the parts if that is wider."""
    total = torch.stack(parts).sum(
        dim=0, dtype=torch.promote_types(parts[0].dtype, torch.float32)
    )
    return total.to(parts[0].dtype)


def _unfold(images, side, stride):
    """Return the neighbourhood (side * side * c) of each pixel of the output, as rows.

    Unlike `torch.nn.functional.unfold`, it keeps the channels last, so that a row is
    copied in `side` pieces.
    """
    b, c, height, width = images.shape
    margin = side // 2
    padded = pad(images.permute(0, 2, 3, 1), (0, 0, *[margin] * 4))
    padded = padded.contiguous()
    of_image, of_row, of_pixel, _ = padded.stride()
    n_rows, n_columns = -(-height // stride[0]), -(-width // stride[1])
    return padded.as_strided(
        (b, n_rows, n_columns, side, side * c),
        (of_image, stride[0] * of_row, stride[1] * of_pixel, of_row, 1),
    ).reshape(b * n_rows * n_columns, side * side * c)
