# SPDX-License-Identifier: BSD-3-Clause
"""The paper's variants, as parameters; and pretexts that were trained before."""

import copy

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.callback import ScoringMonitor
from sklearn.decomposition import PCA
from sklearn.frozen import FrozenEstimator
from sklearn.model_selection import GridSearchCV
from sklearn.preprocessing import normalize

from sklearn_scan import SCANClustering, TrainingConfig
from sklearn_scan._engine import NeighborPairs
from sklearn_scan._inputs import ArraySource, learn_format
from sklearn_scan._stages import Evaluator, MinedSamples
from sklearn_scan._stages._head_search import make_heads
from sklearn_scan.metrics import hungarian_accuracy_scorer
from sklearn_scan.pretext import Pretrained, SimCLR

# A few epochs of everything do not find every cluster.
pytestmark = [
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
    pytest.mark.usefixtures("few_steps"),
]


@pytest.fixture(scope="module")
def images(digits):
    return digits[0][:200]


@pytest.fixture(scope="module")
def trained(images):
    return SimCLR(epochs=4, random_state=0).fit(images)


def quick(**params):
    params.setdefault("pretext", SimCLR(epochs=2))
    params.setdefault("head_search", TrainingConfig(epochs=5))
    params.setdefault("clustering", None)
    params.setdefault("self_labeling", None)
    params.setdefault("n_heads", 2)
    return SCANClustering(random_state=0, **params)


# Neighbours.


def read_pairs(neighbors, n_draws=400):
    """Return the neighbours that are drawn for each sample."""
    rows = np.arange(len(neighbors), dtype=np.float32)[:, None]
    pairs = NeighborPairs(ArraySource(rows, learn_format(rows), "cpu"), neighbors)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        drawn = [pairs.read(torch.arange(len(rows)))[1] for _ in range(n_draws)]
    return torch.cat(drawn, dim=1).int().numpy()


def test_neighbours_are_drawn_evenly_past_gaps():
    drawn = read_pairs(np.array([[-1, 2, -1, 1], [0, -1, -1, -1], [-1] * 4]))
    assert set(drawn[0]) == {1, 2}
    assert 0.4 < (drawn[0] == 1).mean() < 0.6
    assert set(drawn[1]) == {0}
    assert set(drawn[2]) == {2}, "a sample without neighbours is its own"


def test_without_neighbours_a_sample_is_its_own():
    drawn = read_pairs(np.empty((3, 0), dtype=np.int64))
    np.testing.assert_array_equal(drawn, np.arange(3)[:, None].repeat(400, axis=1))


def test_the_evaluator_looks_past_gaps():
    embedding = np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32)
    source = ArraySource(embedding, learn_format(embedding), "cpu")
    network = make_heads(source, 4, 2).eval()
    full = np.array([[1, 2], [0, 2], [0, 1], [4, 0], [3, 1]])
    gaps = full.copy()
    gaps[0, 0] = gaps[3] = -1
    with torch.no_grad():
        p = network.logits(torch.tensor(embedding)).softmax(dim=-1).double()
    marginal = p.mean(dim=1)
    entropy = -(marginal * marginal.log()).sum(dim=1)
    pairs = [(i, j) for i in range(5) for j in gaps[i] if j >= 0] + [(3, 3)]
    agreement = sum((p[:, i] * p[:, j]).sum(dim=1).log() for i, j in pairs)
    expected = -agreement / len(pairs) - 5 * entropy
    losses = Evaluator(MinedSamples(source, gaps), 5).losses(network)
    np.testing.assert_allclose(losses, expected, rtol=1e-5)


def test_no_neighbours_at_all(images):
    clusterer = quick(K=0, clustering=TrainingConfig(epochs=1)).fit(images)
    assert clusterer.neighbors_.shape == (200, 0)
    assert np.isfinite(clusterer.score(images))
    assert quick(K=0, n_clusters=3, pretext="auto").fit(images.reshape(200, -1))


def test_neighbours_may_be_given(images):
    mined = quick().fit(images).neighbors_
    given = quick().fit(images, neighbors=mined.tolist())
    np.testing.assert_array_equal(given.neighbors_, mined)
    np.testing.assert_array_equal(given.labels_, quick().fit(images).labels_)
    other = np.where(np.arange(mined.shape[1]) < 5, mined, -1)
    others = quick().fit(images, neighbors=other)
    assert not np.array_equal(others.confidence_, given.confidence_)


@pytest.mark.parametrize(
    ("neighbors", "message"),
    [
        ([[1], [0]], r"shape \(2, 1\).*expected integers of shape \(200, k\)"),
        (np.full((200, 2), 0.5), "type float64; expected integers"),
        (np.full((200, 2), 200), "from 200 to 200; expected row numbers from 0"),
        (np.full((200, 2), -2), "entries from -2"),
    ],
)
def test_neighbours_that_cannot_be(images, neighbors, message):
    with pytest.raises(ValueError, match=message):
        quick().fit(images, neighbors=neighbors)


# How steps are trained.


def test_a_frozen_encoder_stays_as_it_was(images, trained):
    clusterer = quick(
        pretext=FrozenEstimator(trained),
        head_search=None,
        n_heads=3,
        clustering=TrainingConfig(
            epochs=2, freeze_encoder=True, optimizer="sgd", lr=0.5
        ),
        self_labeling=TrainingConfig(epochs=1, freeze_encoder=True),
        threshold=0.1,
        keep="last",
    ).fit(images)
    network = clusterer.net_.module_
    before = trained.net_.module_.encoder.state_dict()
    after = network.encoder.state_dict()
    assert list(after) == list(before)
    for name, value in before.items():
        assert torch.equal(after[name], value), name
    assert network.heads.n_heads == 1, "the best of three stays"
    assert all(p.requires_grad for p in network.parameters())


def test_training_changes_what_it_says(images, trained):
    def clusterd(**training):
        clusterer = quick(
            pretext=FrozenEstimator(trained),
            head_search=None,
            clustering=TrainingConfig(epochs=1, **training),
            keep="last",
        ).fit(images)
        return clusterer.net_.module_.heads.linear.weight

    plain = clusterd()
    changes = [
        {"lr": 1e-2},
        {"optimizer": "sgd"},
        {"optimizer": torch.optim.NAdam},
        {"lr_schedule": "constant"},
        {"weight_decay": 100.0},
        {"batch_size": 50},
        {"views": "none"},
        {"views": ("shapes", "cutout")},
    ]
    for change in changes:
        assert not torch.equal(clusterd(**change), plain), change


def test_the_cosine_falls_from_epoch_to_epoch(images):
    rates = []

    class Spy(torch.optim.SGD):
        def step(self):
            rates.append(self.param_groups[0]["lr"])
            super().step()

    SimCLR(epochs=4, batch_size=100, optimizer=Spy, lr=0.1, lr_schedule="cosine").fit(
        images
    )
    expected = 1e-4 + (0.1 - 1e-4) * (1 + np.cos(np.pi * np.arange(4) / 4)) / 2
    np.testing.assert_allclose(rates, expected.repeat(2))


def test_keep_last_keeps_what_is_worse(images):
    harm = TrainingConfig(epochs=1, lr=1.0, lr_schedule="constant", optimizer="sgd")
    kept = {}
    for keep in ("best", "last"):
        clusterer = quick(clustering=harm, keep=keep).fit(images)
        kept[keep] = [note["kept"] for note in clusterer.history_["selection"]]
    assert kept == {"best": [True, False], "last": [True, True]}


def test_a_search_reaches_into_a_step(images):
    search = GridSearchCV(
        quick(clustering=TrainingConfig(epochs=1)),
        {"clustering__lr": [1e-4, 1e-3]},
        cv=2,
    )
    assert search.fit(images).best_params_["clustering__lr"] in (1e-4, 1e-3)


def test_heads_that_never_learn_are_refused(images):
    rows = images.reshape(200, -1)
    with pytest.raises(ValueError, match="head_search=None leaves nothing to train"):
        quick(pretext="auto", head_search=None).fit(rows)
    with pytest.raises(ValueError, match="heads need one of them"):
        quick(head_search=None).fit(images)


@pytest.mark.parametrize(
    ("training", "message"),
    [
        ({"epochs": 0}, "'epochs' parameter of TrainingConfig"),
        ({"optimizer": "lbfgs"}, "'optimizer' parameter of TrainingConfig"),
        ({"views": ("crop", "mirror")}, "Unknown views"),
    ],
)
def test_trainings_that_cannot_be(images, training, message):
    with pytest.raises(ValueError, match=message):
        quick(clustering=TrainingConfig(**training)).fit(images)


# Pretexts that were trained before.


def test_a_frozen_pretext_is_used_as_it_is(images, trained):
    clusterer = quick(pretext=FrozenEstimator(trained))
    for fitted in (clusterer.fit(images), clone(clusterer).fit(images)):
        np.testing.assert_array_equal(fitted.embedding_, trained.transform(images))
        np.testing.assert_array_equal(fitted.predict(images), fitted.labels_)
        assert "pretext" not in fitted.history_


def test_a_frozen_pretext_reads_what_it_was_trained_to_read(images, trained):
    """Darker images are not stretched to the range of those that it has seen."""
    clusterer = quick(pretext=FrozenEstimator(trained)).fit(images / 4)
    np.testing.assert_array_equal(clusterer.embedding_, trained.transform(images / 4))
    np.testing.assert_array_equal(clusterer.predict(images / 4), clusterer.labels_)


def test_a_frozen_pretext_of_another_shape(images, trained):
    with pytest.raises(ValueError, match=r"was fitted on samples of shape \(8, 8\)"):
        quick(pretext=FrozenEstimator(trained)).fit(images[:, :6, :6])


def test_another_frozen_transformer(images):
    rows = images.reshape(200, -1)
    pca = PCA(5).fit(rows)
    clusterer = quick(pretext=FrozenEstimator(pca)).fit(rows)
    np.testing.assert_allclose(clusterer.embedding_, pca.transform(rows), rtol=1e-5)


def test_a_fitted_pretext_that_is_not_frozen_is_told_of(images, trained):
    with pytest.warns(UserWarning, match=r"trained anew.*FrozenEstimator"):
        quick(pretext=trained).fit(images)


@pytest.fixture(scope="module")
def weights(trained):
    return trained.net_.module_.encoder.network.state_dict()


def save_torch(weights, path):
    torch.save({"epoch": 3, "state_dict": weights}, path / "weights.pt")
    return path / "weights.pt"


def save_safetensors(weights, path):
    from safetensors.torch import save_file

    save_file({k: v.contiguous() for k, v in weights.items()}, path / "w.safetensors")
    return str(path / "w.safetensors")


def as_arrays(weights, path):
    return {name: value.numpy() for name, value in weights.items()}


def exactly(pretext):
    """Return a pretext that looks at images in float32."""
    return copy.deepcopy(pretext).set_params(precision="float32")


@pytest.mark.parametrize("save", [save_torch, save_safetensors, as_arrays])
def test_weights_of_other_programs(images, trained, weights, save, tmp_path):
    prefixed = {f"module.encoder_q.{k}": v for k, v in weights.items()}
    saved = save(prefixed | {"queue": torch.zeros(3)}, tmp_path)
    pretext = Pretrained(
        "convnet", saved, prefix="module.encoder_q.", precision="float32"
    )
    expected = exactly(trained).transform(images)
    found = pretext.fit_transform(images)
    np.testing.assert_allclose(normalize(found), expected, atol=1e-6)
    for clustering in (None, TrainingConfig(epochs=1)):
        clusterer = quick(pretext=pretext, clustering=clustering).fit(images)
        np.testing.assert_allclose(clusterer.embedding_, found, rtol=0.1, atol=0.02)


def test_weights_that_do_not_fit(images, weights):
    with pytest.raises(ValueError, match=r"no entry for .* With prefix='encoder\.'"):
        Pretrained("convnet", weights, prefix="encoder.").fit(images)
    wrong = dict(weights)
    wrong["0.0.weight"] = torch.zeros(2, 2)
    with pytest.raises(ValueError, match=r"another shape.*\(2, 2\) was given"):
        Pretrained("convnet", wrong).fit(images)


def test_a_factory_that_brings_its_weights(images, trained):
    network = trained.net_.module_.encoder.network
    pretext = Pretrained(lambda shape: network, precision="float32").fit(images)
    found = normalize(pretext.transform(images))
    expected = exactly(trained).transform(images)
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_the_statistics_of_other_data(images, weights):
    given = Pretrained("convnet", weights, mean=(0.3,), std=(0.4,)).fit(images)
    encoder = given.net_.module_.encoder
    assert float(encoder.mean) == pytest.approx(0.3)
    assert float(encoder.scale) == pytest.approx(2.5)
    with pytest.raises(ValueError, match="has 3 entries, and the samples have 1"):
        Pretrained("convnet", weights, mean=(0.1, 0.2, 0.3)).fit(images)


# Callbacks see an estimator at every epoch.


def test_a_scoring_monitor_scores_every_epoch(digits, images):
    y = digits[1][:200]
    monitor = ScoringMonitor(scoring=hungarian_accuracy_scorer)
    steps = {
        "clustering": TrainingConfig(epochs=2),
        "self_labeling": TrainingConfig(epochs=3),
        "threshold": 0.1,
        "keep": "last",
    }
    clusterer = quick(**steps).set_callbacks(monitor).fit(images, y)
    log = monitor.get_logs()
    scores = [r["score"] for r in log.data if r["task_name"] == "epoch"]
    assert len(scores) == 5
    assert scores[-1] == hungarian_accuracy_scorer(clusterer, images, y)
    unwatched = quick(**steps).fit(images)
    np.testing.assert_array_equal(clusterer.confidence_, unwatched.confidence_)


# Going on after an interruption.


class Stop(Exception):
    pass


class StopAfter:
    """A callback that raises at the end of an epoch."""

    def __init__(self, n_epochs):
        self.n_left = n_epochs

    def setup(self, estimator, context):
        pass

    def on_fit_task_begin(self, estimator, context):
        pass

    def on_fit_task_end(self, estimator, context):
        if context.task_name == "epoch":
            self.n_left -= 1
            if self.n_left == 0:
                raise Stop

    def teardown(self, estimator, context):
        pass


@pytest.mark.parametrize("lr_schedule", ["one_cycle", "cosine", "constant"])
def test_an_interrupted_fit_goes_on_to_the_same_end(
    images, tmp_path, lr_schedule, capsys
):
    def make(**params):
        return quick(
            pretext=SimCLR(epochs=3, lr_schedule=lr_schedule),
            clustering=TrainingConfig(epochs=3, lr_schedule=lr_schedule),
            self_labeling=TrainingConfig(epochs=3, lr_schedule=lr_schedule),
            threshold=0.1,
            keep="last",
            **params,
        )

    whole = make().fit(images)
    n_epochs = []
    for n in (2, 4, 4, 2):  # within each of the four stages
        clusterer = make(checkpoint=tmp_path).set_callbacks(StopAfter(n))
        with pytest.raises(Stop):
            clusterer.fit(images)
        n_epochs.append(sum(len(r) for s, r in clusterer.history_.items()))
    assert n_epochs == sorted(set(n_epochs)), "every call went further than the last"
    resumed = make(checkpoint=tmp_path).fit(images)
    capsys.readouterr()
    make(checkpoint=tmp_path, verbose=1).fit(images)
    for line in capsys.readouterr().out.splitlines():
        # A stage that was done before is shown as it was then.
        _, stage, n_epochs, _, seconds, *_ = line.split()
        if stage in whole.history_:
            assert int(n_epochs) == len(whole.history_[stage])
            last = resumed.history_[stage][-1]
            assert float(seconds) == pytest.approx(last["seconds"], abs=0.2)
    np.testing.assert_array_equal(resumed.confidence_, whole.confidence_)
    for stage, records in whole.history_.items():
        key = "temperature" if stage == "calibration" else "loss"
        values = [record[key] for record in records]
        assert values == [record[key] for record in resumed.history_[stage]]


def test_a_checkpoint_is_of_one_fit(images, tmp_path):
    first = quick(checkpoint=tmp_path).fit(images)
    other = quick(checkpoint=tmp_path, n_clusters=5).fit(images)
    assert other.predict_proba(images).shape == (200, 5)
    names = sorted(file.name.partition("-")[0] for file in tmp_path.iterdir())
    assert names == ["head_search", "head_search", "pretext"], "the pretext is shared"
    np.testing.assert_array_equal(first.embedding_, other.embedding_)


def test_a_checkpoint_needs_a_seed(images, tmp_path):
    with pytest.raises(ValueError, match="requires an integer random_state"):
        SCANClustering(checkpoint=tmp_path).fit(images)


def test_a_checkpoint_knows_the_neighbours_and_the_code(images, trained, tmp_path):
    frozen = FrozenEstimator(trained)

    def count(**params):
        quick(pretext=frozen, checkpoint=tmp_path, **params).fit(images)
        return len(list(tmp_path.iterdir()))

    assert count() == 1
    assert count() == 1, "the same fit finds its own file"
    quick(pretext=frozen, checkpoint=tmp_path).fit(images, neighbors=[[0]] * 200)
    assert len(list(tmp_path.iterdir())) == 2
    both = TrainingConfig(epochs=1)
    assert count(clustering=both, views="none") == 3
    assert count(clustering=both, views=("cutout",)) == 4
    assert count(clustering=both, views=DropHalf) == 5


class DropHalf(torch.nn.Dropout):
    def __init__(self, shape):
        super().__init__(0.5)


def test_a_stopped_pretext_leaves_no_heads_to_a_longer_one(images, tmp_path):
    class StopPretext(StopAfter):
        def on_fit_task_end(self, estimator, context):
            return context.task_name == "epoch"

    def make():
        return quick(pretext=SimCLR(epochs=3))

    make().set_params(checkpoint=tmp_path).set_callbacks(StopPretext(0)).fit(images)
    resumed = make().set_params(checkpoint=tmp_path).fit(images)
    whole = make().fit(images)
    np.testing.assert_array_equal(resumed.confidence_, whole.confidence_)


def test_a_checkpoint_holds_numpy_numbers(images, tmp_path):
    training = TrainingConfig(epochs=2, lr=np.float64(1e-3), weight_decay=np.float32(0))
    for _ in range(2):
        quick(
            pretext=SimCLR(epochs=2, lr=np.logspace(-3, -2, 2)[0]),
            clustering=training,
            checkpoint=tmp_path,
        ).fit(images)


# What review found.


class Poison(torch.optim.SGD):
    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            for parameter in group["params"]:
                parameter.fill_(torch.nan)


@pytest.mark.parametrize("keep", ["best", "last"])
def test_heads_that_diverge_say_so(images, trained, keep):
    harm = TrainingConfig(epochs=1, optimizer=Poison, lr=0.5)
    clusterer = quick(
        pretext=FrozenEstimator(trained), head_search=None, clustering=harm, keep=keep
    )
    with pytest.raises(ValueError, match=r"heads diverged.*lr=0\.5"):
        clusterer.fit(images)


def test_a_layer_that_a_factory_froze_stays_frozen(images):
    pretext = SimCLR(encoder=half_frozen, epochs=1)
    clusterer = quick(pretext=pretext, clustering=TrainingConfig(epochs=1), keep="last")
    clusterer.fit(images)
    first, last = clusterer.net_.module_.encoder[0][0].network[1:]
    assert float(first.weight[0, 0]) == 0.5
    assert not first.weight.requires_grad
    assert last.weight.requires_grad


def half_frozen(shape):
    frozen, free = torch.nn.Linear(64, 16), torch.nn.Linear(16, 8)
    torch.nn.init.constant_(frozen.weight, 0.5)
    frozen.requires_grad_(False)
    return torch.nn.Sequential(torch.nn.Flatten(), frozen, free)


def test_parameters_of_the_pretext_are_checked(images):
    with pytest.raises(ValueError, match="'temperature' parameter of SimCLR"):
        quick(pretext=SimCLR(temperature=-1)).fit(images)


@pytest.mark.parametrize("lr_schedule", ["one_cycle", "cosine", "constant"])
@pytest.mark.parametrize("optimizer", ["sgd", "adam", torch.optim.Adagrad])
def test_optimizers_with_every_lr_schedule(images, optimizer, lr_schedule):
    SimCLR(epochs=2, optimizer=optimizer, lr=1e-3, lr_schedule=lr_schedule).fit(images)


def test_a_failed_refit_leaves_nothing_behind(images, trained):
    pretext = clone(trained).set_params(epochs=1).fit(images)
    clusterer = quick(pretext=FrozenEstimator(trained)).fit(images)
    for fitted in (pretext, clusterer):
        with pytest.raises(ValueError, match="NaN"):
            fitted.fit(images * np.nan)
        assert not hasattr(fitted, "net_")
        assert not hasattr(fitted, "labels_")


def test_weights_of_a_file_that_changed(images, weights, tmp_path):
    path = tmp_path / "weights.pt"
    pretext = Pretrained("convnet", str(path))
    embeddings = []
    for factor in (1, 2):
        torch.save({k: factor * v for k, v in weights.items()}, path)
        clusterer = quick(pretext=pretext, memory=str(tmp_path / "cache"))
        embeddings.append(clusterer.fit(images).embedding_)
    assert not np.array_equal(*embeddings)


def test_weights_in_bfloat16_that_have_gradients(images, weights):
    given = {k: v.clone() for k, v in weights.items()}
    given = {k: v.bfloat16() if v.is_floating_point() else v for k, v in given.items()}
    given = {
        k: v.requires_grad_() if v.is_floating_point() else v for k, v in given.items()
    }
    embedding = Pretrained("convnet", given).fit_transform(images)
    assert embedding.dtype == np.float32


def test_rows_of_pixels_with_a_frozen_pretext(images, trained):
    rows = images.reshape(200, -1)
    pretext = SimCLR(epochs=1, image_shape=(8, 8), random_state=0).fit(rows)
    clusterer = quick(pretext=FrozenEstimator(pretext)).fit(rows)
    np.testing.assert_array_equal(clusterer.predict(rows), clusterer.labels_)
    own = quick(pretext=SimCLR(epochs=1), image_shape=(8, 8)).fit(rows)
    np.testing.assert_array_equal(own.pretext_.transform(rows), own.embedding_)


def test_what_cannot_work_is_said_before_anything_is_trained(images, monkeypatch):
    monkeypatch.setattr("sklearn_scan._backbone.TrainableBackbone.fit_embed", None)
    with pytest.raises(ValueError, match="expected integers"):
        quick().fit(images, neighbors=[[0.5]] * 200)
    with pytest.raises(ValueError, match="Unknown views"):
        quick(self_labeling=TrainingConfig(views=("mirror",))).fit(images)
    with pytest.raises(ValueError, match="Unknown views"):
        quick(views=("mirror",)).fit(images)
