# SPDX-License-Identifier: BSD-3-Clause
"""Gradients of convolutions' weights as products of matrices.

Some CPUs multiply matrices of bfloat16 in tiles (AMX), many times faster than others.
Torch's gradient of the weights of a convolution gains little by that where images are
small and channels many, as in the last layers of most networks. There the
neighbourhoods of all pixels of a batch, one per row, are multiplied with the gradients
of the output: the same sums, up to ten times as fast.
"""

from contextlib import nullcontext

import torch
from torch.nn.functional import pad
from torch.overrides import TorchFunctionMode

from sklearn_scan._devices import has_tiles

# The product is used where the output has at most one pixel per four channels of the
# input, and at most 49 pixels (7 x 7, the last of a network for photographs):
# `benchmarks/speed.py --parts gradients` shows that it is faster there.
_CHANNELS_PER_PIXEL, _MOST_PIXELS = 4, 49
# Numbers in the neighbourhoods that are multiplied at a time.
_MOST_UNFOLDED = 2**26
# The types that autocast makes bfloat16.
_CAST = (torch.float32, torch.bfloat16, torch.float16)


def fast_weight_gradients(device, precision):
    """Return the context in which gradients of weights are products, where it pays.

    That is on CPUs with tiles for matrices of bfloat16, in that precision. Elsewhere
    the context changes nothing.
    """
    pays = precision == "bfloat16" and device.type == "cpu" and has_tiles()
    return _ProductGradients() if pays else nullcontext()


class _ProductGradients(TorchFunctionMode):
    """Replaces the convolutions of which the product is faster, in any network."""

    def __torch_function__(self, function, types, args=(), kwargs=None):
        if function is torch.conv2d and not kwargs and is_suitable(*args):
            return _Convolution.apply(args[0].bfloat16(), args[1].bfloat16(), args[3])
        return function(*args, **(kwargs or {}))


def is_suitable(
    images, weight, bias=None, stride=1, padding=0, dilation=1, groups=1, /
):
    """Say whether the gradient of the weights is faster as a product.

    Takes the arguments of `torch.conv2d`, as `torch.nn.Conv2d` passes them.
    """
    is_cast = (
        torch.is_autocast_enabled("cpu")
        and torch.get_autocast_dtype("cpu") is torch.bfloat16
        and images.device.type == "cpu"
        and images.dtype in _CAST
        and weight.dtype in _CAST
        and not torch.compiler.is_compiling()
    )
    if not is_cast or images.ndim != 4:
        return False
    height, width = weight.shape[2:]
    is_plain = (
        bias is None
        and groups == 1
        and dilation == (1, 1)
        and stride in ((1, 1), (2, 2))
        and height == width
        and height % 2 == 1
        and padding == (height // 2, width // 2)
    )
    if not is_plain:
        return False
    n_pixels = -(-images.shape[2] // stride[0]) * -(-images.shape[3] // stride[1])
    return n_pixels <= min(images.shape[1] // _CHANNELS_PER_PIXEL, _MOST_PIXELS)


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
