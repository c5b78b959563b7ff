# SPDX-License-Identifier: BSD-3-Clause
"""Convolutions as products of matrices, where a CPU is faster at these.

Images become small in the last layers of most networks, and channels many. Where a
kernel reaches every pixel from every other, as one of 3 x 3 does in images of 2 x 2
pixels, the convolution is a linear layer, with less than half of the operations: what
would be multiplied with the margin is left out.

Some CPUs multiply matrices of bfloat16 in tiles (AMX), many times faster than others.
Torch's gradient of the weights of a convolution gains little by that. There, the
neighbourhoods of all pixels of a batch, one per row, are multiplied with the gradients
of the output: the same sums, up to ten times as fast.
"""

from contextlib import nullcontext

import torch
from torch.nn.functional import linear, pad
from torch.overrides import TorchFunctionMode

from sklearn_scan._devices import has_tiles

# For fewer images, making the matrix takes longer than it saves.
_FEWEST_IMAGES = 16
# The gradient of the weights is a product where the output has at most one pixel per
# four channels of the input, and at most 49 pixels (7 x 7, the last of a network for
# photographs). `benchmarks/speed.py --parts convolutions` shows that it is faster.
_CHANNELS_PER_PIXEL, _MOST_PIXELS = 4, 49
# Numbers in the neighbourhoods that are multiplied at a time.
_MOST_UNFOLDED = 2**26
# The types that autocast casts.
_CAST = (torch.float32, torch.bfloat16, torch.float16)


def fast_convolutions(device):
    """Return the context in which convolutions that learn are products, where it pays.

    On a GPU it changes nothing.
    """
    return _FastConvolutions() if device.type == "cpu" else nullcontext()


class _FastConvolutions(TorchFunctionMode):
    """Replaces the convolutions of which a product is faster, in any network."""

    def __torch_function__(self, function, types, args=(), kwargs=None):
        if function is torch.conv2d and not kwargs:
            convolve = choose_product(*args)
            if convolve is not None:
                images, weight, _, stride, *_ = args
                dtype = _find_type(images, weight)
                return convolve(images.to(dtype), weight.to(dtype), stride)
        return function(*args, **(kwargs or {}))


def choose_product(
    images, weight, bias=None, stride=1, padding=0, dilation=1, groups=1, /
):
    """Return the function that convolves faster than torch; None where there is none.

    Takes the arguments of `torch.conv2d`, as `torch.nn.Conv2d` passes them.

    Returns
    -------
    convolve : callable or None
        ``f(images, weight, stride)``, of images and weights of one type.
    """
    if images.ndim != 4 or images.device.type != "cpu":
        return None
    side, is_square = weight.shape[3], weight.shape[2] == weight.shape[3]
    is_plain = (
        bias is None
        and groups == 1
        and dilation == (1, 1)
        and stride in ((1, 1), (2, 2))
        and is_square
        and side % 2 == 1
        and padding == (side // 2, side // 2)
        and not torch.compiler.is_compiling()
    )
    dtype = _find_type(images, weight)
    if not is_plain or dtype is None:
        return None
    n_images, n_channels, *size = images.shape
    if max(size) <= side // 2 + 1:
        return multiply_images if n_images >= _FEWEST_IMAGES else None
    n_pixels = -(-size[0] // stride[0]) * -(-size[1] // stride[1])
    is_suitable = n_pixels <= min(n_channels // _CHANNELS_PER_PIXEL, _MOST_PIXELS)
    if is_suitable and dtype is torch.bfloat16 and has_tiles():
        return _Convolution.apply
    return None


def _find_type(images, weight):
    """Return the type in which torch would convolve; None for others than floats."""
    if images.dtype not in _CAST or weight.dtype not in _CAST:
        return None
    if torch.is_autocast_enabled("cpu"):
        return torch.get_autocast_dtype("cpu")
    return images.dtype if images.dtype is weight.dtype else None


def multiply_images(images, weight, stride):
    """Convolve images of which a kernel reaches every pixel from every other.

    Parameters
    ----------
    images : Tensor of shape (b, n_in, h, w)
        Of at most ``k // 2 + 1`` rows and columns.
    weight : Tensor of shape (n_out, n_in, k, k)
        Of odd `k`.
    stride : tuple of two int
        The padding is ``k // 2``.

    Returns
    -------
    images : Tensor of shape (b, n_out, h_out, w_out)
    """
    height, width = images.shape[2:]
    rows, columns = range(0, height, stride[0]), range(0, width, stride[1])
    middle = weight.shape[2] // 2
    by_pixel = weight.permute(0, 2, 3, 1)
    # What each pixel of the output sees of the kernel, and that is all pixels.
    seen = [
        by_pixel[:, middle - y : middle - y + height, middle - x : middle - x + width]
        for y in rows
        for x in columns
    ]
    matrix = torch.stack(seen).flatten(2).flatten(0, 1)
    products = linear(images.permute(0, 2, 3, 1).flatten(1), matrix)
    return products.unflatten(1, (len(rows), len(columns), -1)).permute(0, 3, 1, 2)


class _Convolution(torch.autograd.Function):
    """The convolution of torch, with a product as the gradient of its weights."""

    generate_vmap_rule = True

    @staticmethod
    def forward(images, weight, stride):
        return torch.conv2d(images, weight, None, stride, weight.shape[2] // 2)

    @staticmethod
    def setup_context(ctx, inputs, output):
        images, weight, ctx.stride = inputs
        ctx.save_for_backward(images, weight)

    @staticmethod
    def backward(ctx, gradient):
        images, weight = ctx.saved_tensors
        needs_images, needs_weight, _ = ctx.needs_input_grad
        of_images = of_weight = None
        if needs_images:
            of_images = torch.nn.grad.conv2d_input(
                images.shape, weight, gradient, ctx.stride, weight.shape[2] // 2
            )
        if needs_weight:
            of_weight = multiply_gradient(images, gradient, weight.shape, ctx.stride)
        return of_images, of_weight, None


def multiply_gradient(images, gradient, shape, stride):
    """Return the gradient of the weights of a convolution.

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
        of_pixels.permute(0, 2, 3, 1).reshape(-1, n_out).T @ _unfold(some, side, stride)
        for some, of_pixels in zip(
            images.split(at_a_time), gradient.split(at_a_time), strict=True
        )
    ]
    total = products[0] if len(products) == 1 else _add(products)
    return total.view(n_out, side, side, n_in).permute(0, 3, 1, 2)


def _add(parts):
    """Add in float32 at least, as a product does within."""
    total = torch.stack(parts).sum(
        dim=0, dtype=torch.promote_types(parts[0].dtype, torch.float32)
    )
    return total.to(parts[0].dtype)


def _unfold(images, side, stride):
    """Return the neighbourhood (side * side * c) of each pixel of the output, as rows.

    Unlike `torch.nn.functional.unfold`, with the channels last, so that a row is copied
    in `side` pieces.
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
