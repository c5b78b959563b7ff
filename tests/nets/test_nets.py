# SPDX-License-Identifier: BSD-3-Clause
import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from sklearn_scan._inputs import learn_format
from sklearn_scan._nets import (
    ENCODERS,
    ConvNet,
    LinearHeads,
    Projector,
    UnitLength,
    build_encoder,
)

N_FEATURES = {
    "mlp": 256,
    "convnet": 256,
    "resnet18": 512,
    "resnet18_cifar": 512,
    "resnet18_stl": 512,
    "resnet34": 512,
    "resnet34_cifar": 512,
    "resnet34_stl": 512,
    "resnet50": 2048,
    "resnet50_cifar": 2048,
    "resnet50_stl": 2048,
}


def format_of(*sample_shape):
    return learn_format(np.random.default_rng(0).random((10, *sample_shape)))


def batch_of(format, device, n=3):
    generator = torch.Generator().manual_seed(0)
    return torch.rand(n, *format.tensor_shape, generator=generator).to(device)


def test_every_name_is_tested():
    assert set(N_FEATURES) == set(ENCODERS)


@pytest.mark.parametrize("n_channels", [1, 3])
@pytest.mark.parametrize("name", N_FEATURES)
def test_an_encoder_by_name_gives_the_features_it_announces(name, n_channels, device):
    format = format_of(16, 18, n_channels)
    encoder = build_encoder(name, format).to(device)
    features = encoder(batch_of(format, device))
    assert encoder.n_features == N_FEATURES[name]
    assert features.shape == (3, N_FEATURES[name])
    assert features.std(dim=0).max() > 0


@pytest.mark.parametrize(
    ("sample_shape", "network"),
    [
        ((5,), "Sequential"),
        ((8, 8), "ConvNet"),
        ((64, 80), "ConvNet"),
        ((65, 65, 3), "ResNet"),
    ],
)
def test_auto_goes_by_the_size(sample_shape, network):
    encoder = build_encoder("auto", format_of(*sample_shape))
    assert type(encoder.network).__name__ == network


def test_the_cifar_stem_keeps_the_resolution_at_first():
    format = format_of(16, 16, 3)
    for name, stride in [("resnet18", 2), ("resnet18_cifar", 1)]:
        network = build_encoder(name, format).network
        assert network.conv1.stride == (stride, stride)
        assert isinstance(network.maxpool, nn.Identity) == (stride == 1)


@pytest.mark.parametrize(
    "sample_shape", [(1, 1), (3, 5), (1, 40), (2, 2, 3), (25, 31), (4, 4)]
)
@pytest.mark.parametrize("name", ["convnet", "mlp"])
def test_small_encoders_read_any_size(name, sample_shape, device):
    format = format_of(*sample_shape)
    encoder = build_encoder(name, format).to(device)
    features = encoder(batch_of(format, device))
    assert features.shape == (3, encoder.n_features)
    features.sum().backward()
    assert all(p.grad is not None for p in encoder.parameters())


def test_the_convnet_gets_no_wider_than_256():
    widths = {m.out_channels for m in ConvNet(3, 64).modules() if hasattr(m, "groups")}
    assert widths == {32, 64, 128, 256}


def count_flops(network, shape):
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network.eval()(torch.zeros(1, *shape))
    return counter.get_total_flops()


@pytest.mark.parametrize("side", [28, 64])
def test_large_images_of_one_channel_take_less_time(side):
    """The first convolution aside, they would take as long as those in colour."""
    gray, color = (
        count_flops(ConvNet(n, side), (n, side, side))
        - count_flops(ConvNet(n, 3), (n, -(-side // 2), -(-side // 2)))
        for n in (1, 3)
    )
    assert gray < 0.8 * color


@pytest.mark.parametrize(("n_channels", "side"), [(1, 8), (1, 28), (3, 24), (3, 32)])
def test_features_are_pooled_before_they_are_normalised(n_channels, side):
    block = ConvNet(n_channels, side)[1]
    layers = [type(layer).__name__ for layer in block]
    assert layers == ["Conv2d", "MaxPool2d", "BatchNorm2d", "ReLU"]


@pytest.mark.parametrize(
    ("n_channels", "side", "width"), [(1, 28, 32), (3, 28, 64), (1, 8, 64)]
)
def test_photographs_and_tiny_images_are_widened_before_they_shrink(
    n_channels, side, width
):
    assert ConvNet(n_channels, side)[1][0].out_channels == width


class Rows(nn.Linear):
    """A class as a factory."""

    def __init__(self, shape):
        super().__init__(shape[0], 7)


def pooled(shape):
    """A function as a factory, with features (b, n, 1, 1)."""
    return nn.Sequential(nn.Conv2d(shape[0], 6, 1), nn.AdaptiveAvgPool2d(1))


def lazy(shape):
    return nn.Sequential(nn.Flatten(), nn.LazyLinear(4))


@pytest.mark.parametrize(
    ("factory", "sample_shape", "n_features"),
    [(Rows, (5,), 7), (pooled, (4, 6, 3), 6), (lazy, (4, 6), 4), (lazy, (5,), 4)],
)
def test_a_factory_is_given_the_shape_and_measured(
    factory, sample_shape, n_features, device
):
    format = format_of(*sample_shape)
    encoder = build_encoder(factory, format).to(device)
    assert encoder.n_features == n_features
    assert encoder(batch_of(format, device)).shape == (3, n_features)


def test_measuring_leaves_the_network_untouched_and_in_training_mode():
    seen = []

    def factory(shape):
        network = nn.Sequential(nn.Flatten(), nn.BatchNorm1d(12))
        network.register_forward_hook(lambda net, *_: seen.append(net.training))
        return network

    encoder = build_encoder(factory, format_of(3, 4))
    assert seen == [False]
    assert encoder.network.training
    assert encoder.network[1].num_batches_tracked == 0


@pytest.mark.parametrize(
    ("factory", "sample_shape", "error", "message"),
    [
        ("convnet", (5,), ValueError, r'"convnet" reads images, but X holds rows of 5'),
        ("resnet18", (5,), ValueError, r'use encoder="mlp"'),
        (lambda shape: None, (5,), TypeError, "returned NoneType, not a torch.nn.Modu"),
        (lambda shape: nn.Identity, (5,), TypeError, "returned type, not a torch.nn"),
        (
            lambda shape: nn.Identity(),
            (4, 6),
            ValueError,
            r"\(2, 1, 4, 6\) for a batch",
        ),
        (lambda shape: nn.Flatten(0), (4, 6), ValueError, r"shape \(48,\) for a batch"),
    ],
)
def test_a_factory_that_gives_no_features_is_refused(
    factory, sample_shape, error, message
):
    with pytest.raises(error, match=message):
        build_encoder(factory, format_of(*sample_shape))


@pytest.mark.parametrize("sample_shape", [(6, 7), (6, 7, 3)])
def test_an_encoder_standardises_what_it_reads(sample_shape, device):
    X = np.random.default_rng(0).normal(3, 2, size=(500, *sample_shape))
    format = learn_format(X)
    encoder = build_encoder(lambda shape: nn.Flatten(), format).to(device)
    out = encoder(format.decode(torch.from_numpy(X).to(device)))
    axes = (0, 2, 3)
    out = out.view(500, *format.tensor_shape)
    assert out.mean(dim=axes).abs().max() < 1e-4
    assert (out.std(dim=axes, correction=0) - 1).abs().max() < 1e-4


def test_rows_keep_the_scales_of_their_features(device):
    """As k-means does: the components of a PCA, say, are not whitened."""
    X = np.random.default_rng(0).normal(3, [1, 2, 5], size=(500, 3))
    encoder = build_encoder(lambda shape: nn.Identity(), learn_format(X)).to(device)
    out = encoder(torch.tensor(X, dtype=torch.float32, device=device))
    assert out.mean(dim=0).abs().max() < 1e-4
    std = out.std(dim=0, correction=0).cpu().numpy()
    np.testing.assert_allclose(std / std[0], X.std(axis=0) / X[:, 0].std(), rtol=1e-4)
    assert (std**2).mean() == pytest.approx(1, rel=1e-4)


@pytest.mark.parametrize("value", [0, 1, 1e6 / 3])
def test_a_feature_that_never_varied_stays_zero(value, device):
    X = np.random.default_rng(0).normal(size=(50, 3))
    X[:, 1] = value
    encoder = build_encoder(lambda shape: nn.Identity(), learn_format(X)).to(device)
    out = encoder(torch.tensor(X + 5, dtype=torch.float32, device=device))
    assert torch.equal(out[:, 1], torch.zeros(50, device=device))
    assert out[:, (0, 2)].std(dim=0).min() > 0.5


# --- heads -------------------------------------------------------------------------


def test_selecting_a_head_keeps_its_logits(device):
    heads = LinearHeads(6, 4, n_heads=3).to(device)
    features = torch.randn(5, 6, device=device)
    logits = heads(features)
    assert logits.shape == (3, 5, 4)
    for k in range(3):
        alone = heads.select(k)
        assert alone.n_heads == 1
        torch.testing.assert_close(alone(features), logits[k : k + 1])
    torch.testing.assert_close(heads.select(2, 0)(features), logits[[2, 0]])
    assert not torch.allclose(logits[0], logits[1])


def test_a_selected_head_has_weights_of_its_own(device):
    heads = LinearHeads(6, 4, n_heads=2).to(device)
    features = torch.randn(5, 6, device=device)
    alone = heads.select(1)
    before = alone(features)
    with torch.no_grad():
        heads.linear.weight.zero_()
    assert torch.equal(alone(features), before)
    assert alone.linear.weight.requires_grad


def test_each_head_is_a_linear_classifier_of_its_own(device):
    heads = LinearHeads(3, 2, n_heads=2).to(device)
    weight = heads.linear.weight.detach().clone()
    heads(torch.ones(4, 3, device=device))[1].sum().backward()
    assert weight.shape == (4, 3)
    assert (heads.linear.weight.grad[:2] == 0).all()
    assert (heads.linear.weight.grad[2:] != 0).all()


def test_logits_are_float32_under_autocast(device):
    """In bfloat16 a confidence above 0.99 would have two values."""
    heads = LinearHeads(6, 4).to(device)
    features = torch.randn(5, 6, device=device)
    with torch.autocast(torch.device(device).type, torch.bfloat16):
        logits = heads(features)
    assert logits.dtype == torch.float32
    assert torch.equal(logits, heads(features))


def test_unit_length_has_zeros_stay_zeros(device):
    features = torch.tensor([[3.0, 4.0], [0, 0]], device=device)
    expected = torch.tensor([[0.6, 0.8], [0, 0]], device=device)
    torch.testing.assert_close(UnitLength()(features), expected)


def test_a_projector_has_the_length_asked_for(device):
    projector = Projector(6, 9).to(device)
    assert projector(torch.randn(4, 6, device=device)).shape == (4, 9)
