# SPDX-License-Identifier: BSD-3-Clause
"""The baseline of the speed benchmark: the published recipe in plain PyTorch.

What a careful person writes first: images as Pillow images through torchvision's
transforms, one at a time, in the worker processes of a `DataLoader`; float32 in the
default layout; the loss read after every step.
"""

import os
import time

import torch
import torch.nn.functional as F
from PIL import Image
from torch import nn
from torch.utils.data import DataLoader, Dataset, RandomSampler
from torchvision import models
from torchvision import transforms as T

_N_WORKERS = min(8, os.cpu_count())
_PREFETCHED = 2  # batches per worker, as is the default

_NORMALIZE = [T.ToTensor(), T.Normalize((0.491, 0.482, 0.447), (0.247, 0.243, 0.262))]


def simclr_views(side):
    jitter = T.RandomApply([T.ColorJitter(0.4, 0.4, 0.4, 0.1)], p=0.8)
    crop = T.RandomResizedCrop(side, scale=(0.2, 1.0))
    flip, gray = T.RandomHorizontalFlip(), T.RandomGrayscale(0.2)
    return T.Compose([crop, flip, jitter, gray, *_NORMALIZE])


def strong_views(side):
    hole = T.RandomErasing(p=1.0, scale=(0.01, 0.25), ratio=(1, 1))
    return T.Compose([T.RandomHorizontalFlip(), T.RandAugment(4), *_NORMALIZE, hole])


class PlainImages(Dataset):
    """Tuples of views of one image, or of an image and of a neighbour."""

    def __init__(self, images, views, neighbors=None):
        self.images = images
        self.views = views
        self.neighbors = neighbors

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        indices = [index] * len(self.views)
        if self.neighbors is not None:
            choice = torch.randint(self.neighbors.shape[1], ()).item()
            indices[1] = self.neighbors[index, choice]
        return tuple(
            view(Image.fromarray(self.images[i]))
            for view, i in zip(self.views, indices, strict=True)
        )


def resnet18_for_small_images():
    network = models.resnet18(weights=None)
    network.conv1 = nn.Conv2d(3, 64, 3, padding=1, bias=False)
    network.maxpool = nn.Identity()
    network.fc = nn.Identity()
    return network


class PlainStage:
    """One stage: what a step computes, on which views."""

    def __init__(self, images, neighbors, device, n_clusters=10):
        self.images, self.neighbors, self.device = images, neighbors, device
        self.n_clusters = n_clusters
        self.encoder = resnet18_for_small_images()
        self.model = nn.Sequential(self.encoder, self.make_head()).to(device)
        self.optimizer = self.make_optimizer(self.model.parameters())

    def make_head(self):
        return nn.Linear(512, self.n_clusters)

    def make_optimizer(self, parameters):
        return torch.optim.Adam(parameters, lr=1e-4, weight_decay=1e-4)

    def train(self, n_steps, batch_size):
        """Take steps; return samples per second, in the steady state.

        One pass through the loader. The steps do not count for which workers were
        started, or had prepared batches while these started; and there are batches
        beyond the last step, so that the workers work to the end.
        """
        data = self.make_data(self.images.shape[1])
        n_ahead = _PREFETCHED * _N_WORKERS
        n_uncounted = 1 + n_ahead
        n_samples = (n_uncounted + n_steps + n_ahead) * batch_size
        loader = DataLoader(
            data,
            batch_size,
            sampler=RandomSampler(data, replacement=True, num_samples=n_samples),
            num_workers=_N_WORKERS,
            prefetch_factor=_PREFETCHED,
        )
        self.model.train()
        ends = []
        for batch in loader:
            first, second = (views.to(self.device) for views in batch)
            loss = self.compute_loss(first, second)
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
            loss.item()
            ends.append(time.perf_counter())
            if len(ends) == n_uncounted + n_steps:
                break
        return n_steps * batch_size / (ends[-1] - ends[n_uncounted - 1])


class PlainSimCLR(PlainStage):
    def make_data(self, side):
        return PlainImages(self.images, [simclr_views(side)] * 2)

    def make_head(self):
        return nn.Sequential(nn.Linear(512, 512), nn.ReLU(), nn.Linear(512, 128))

    def make_optimizer(self, parameters):
        return torch.optim.SGD(parameters, lr=0.4, momentum=0.9, weight_decay=1e-4)

    def compute_loss(self, first, second):
        z = F.normalize(self.model(torch.cat([first, second])), dim=1)
        similarity = z @ z.T / 0.1
        similarity.fill_diagonal_(float("-inf"))
        partner = torch.arange(len(z), device=z.device).roll(len(first))
        return F.cross_entropy(similarity, partner)


class PlainClustering(PlainStage):
    def make_data(self, side):
        return PlainImages(self.images, [strong_views(side)] * 2, self.neighbors)

    def compute_loss(self, first, second):
        p, q = self.model(first).softmax(dim=1), self.model(second).softmax(dim=1)
        mean = p.mean(dim=0)
        entropy = -(mean * mean.log()).sum()
        return -(p * q).sum(dim=1).log().mean() - 5 * entropy


class PlainSelfLabeling(PlainStage):
    def make_data(self, side):
        return PlainImages(self.images, [T.Compose(_NORMALIZE), strong_views(side)])

    def compute_loss(self, first, second):
        with torch.no_grad():
            confidence, labels = self.model(first).softmax(dim=1).max(dim=1)
        # An untrained network is sure of nothing, and a step must do its work.
        losses = F.cross_entropy(self.model(second), labels, reduction="none")
        return losses[confidence > 0].mean()


def predict(images, device, batch_size):
    """Return images per second of the probabilities, image by image into batches."""
    model = nn.Sequential(resnet18_for_small_images(), nn.Linear(512, 10)).to(device)
    data = PlainImages(images, [T.Compose(_NORMALIZE)])
    loader = DataLoader(data, batch_size, num_workers=_N_WORKERS)
    model.eval()
    ends = []
    with torch.no_grad():
        for (batch,) in loader:
            model(batch.to(device)).softmax(dim=1).cpu()
            ends.append(time.perf_counter())
    # Without the first batch, for which workers were started.
    return (len(ends) - 1) * batch_size / (ends[-1] - ends[0])


PLAIN_STAGES = {
    "simclr": PlainSimCLR,
    "clustering": PlainClustering,
    "self_labeling": PlainSelfLabeling,
}
