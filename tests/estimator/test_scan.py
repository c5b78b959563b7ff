# SPDX-License-Identifier: BSD-3-Clause
"""SCANClustering as a person uses it: quality floors, inputs, attributes, promises."""

import joblib
import numpy as np
import pytest
import torch
from scan_bench import data_sets
from sklearn.base import clone
from sklearn.cluster import KMeans
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.metrics import adjusted_rand_score
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler, StandardScaler

from sklearn_scan import SCANClustering, TrainingConfig
from sklearn_scan.metrics import hungarian_accuracy_score, neighbor_purity_score
from sklearn_scan.pretext import SimCLR

# Quick fits may find fewer clusters than they were asked for; they say so, and tests of
# that ask for it.
pytestmark = pytest.mark.filterwarnings(
    "default::sklearn.exceptions.ConvergenceWarning"
)


def quick(**params):
    """Return a clusterer whose every stage runs, in about a second."""
    params = {"n_clusters": 10, "n_heads": 4, "random_state": 0} | params
    params.setdefault("pretext", SimCLR(epochs=2))
    params.setdefault("head_search", TrainingConfig(epochs=10))
    params.setdefault("clustering", TrainingConfig(epochs=1))
    params.setdefault("self_labeling", TrainingConfig(epochs=1))
    # Every cluster has a confident member, so that self-labelling runs.
    params.setdefault("threshold", 0.2)
    return SCANClustering(**params)


@pytest.fixture(scope="module")
def fitted(digits, device):
    return quick(pretext=SimCLR(epochs=10), device=device).fit(digits[0])


# Quality.


@pytest.fixture(scope="module")
def halves():
    """Return rows of all digits to train on, others to test on, and their classes."""
    return train_test_split(*load_digits(return_X_y=True), random_state=0)


@pytest.fixture(scope="module")
def able(halves, device):
    """Return what a quarter of the default pretext gives, and less clustering."""
    return SCANClustering(
        n_clusters=10,
        image_shape=(8, 8),
        pretext=SimCLR(epochs=20),
        clustering=TrainingConfig(epochs=5),
        device=device,
        random_state=0,
    ).fit(halves[0])


def test_digits_are_found(able, halves):
    """The main job: a floor, not the record."""
    _, _, y, _ = halves
    assert hungarian_accuracy_score(y, able.labels_) > 0.93
    assert neighbor_purity_score(able.neighbors_, y) > 0.96


def test_light_on_dark_and_dark_on_light_are_one_kind(device):
    """Without negatives among the views, ACC is 0.5: clusters follow the ground."""
    images, y = data_sets.inverted_digits()
    clusterer = SCANClustering(
        n_clusters=10,
        pretext=SimCLR(epochs=20),
        clustering=None,
        self_labeling=None,
        device=device,
        random_state=0,
    ).fit(images)
    assert hungarian_accuracy_score(y, clusterer.labels_) > 0.9


def test_new_images_are_recognised(able, halves):
    """Held-out accuracy, under the names learned from the training images."""
    _, X_test, y_train, y_test = halves
    train = hungarian_accuracy_score(y_train, able.labels_)
    test = hungarian_accuracy_score(y_test, able.predict(X_test))
    assert test > train - 0.04


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_digits_are_found_with_defaults(seed, device):
    bunch = load_digits()
    clusterer = SCANClustering(n_clusters=10, device=device, random_state=seed)
    labels = clusterer.fit_predict(bunch.images)
    assert hungarian_accuracy_score(bunch.target, labels) > 0.98


def test_rows_are_grouped_better_than_by_kmeans(device):
    X, y = load_digits(return_X_y=True)
    X = StandardScaler().fit_transform(X)
    clusterer = SCANClustering(n_clusters=10, device=device, random_state=0).fit(X)
    kmeans = KMeans(10, n_init=10, random_state=0).fit(X)
    scan_accuracy = hungarian_accuracy_score(y, clusterer.labels_)
    assert scan_accuracy > hungarian_accuracy_score(y, kmeans.labels_) + 0.1


def test_clusters_of_three_blobs(blobs, device):
    X, y = blobs
    clusterer = SCANClustering(n_clusters=3, device=device, random_state=0)
    assert adjusted_rand_score(y, clusterer.fit_predict(X)) > 0.9


# Attributes and methods.


def test_attributes_have_the_promised_shapes(fitted, digits):
    n = len(digits[0])
    assert fitted.labels_.shape == (n,)
    assert fitted.labels_.dtype == np.int64
    assert fitted.confidence_.shape == (n,)
    assert fitted.confidence_.dtype == np.float32
    assert fitted.embedding_.dtype == np.float32
    assert fitted.neighbors_.shape == (n, 20)
    assert fitted.neighbors_.dtype == np.int64
    assert fitted.prototypes_.shape == (10,)
    assert fitted.image_shape_ == (8, 8)
    assert fitted.n_features_in_ == 8
    assert (fitted.neighbors_ != np.arange(n)[:, None]).all()


def test_every_stage_leaves_a_history(fitted):
    epochs = {name: len(records) for name, records in fitted.history_.items()}
    assert epochs.pop("selection") == 3
    assert epochs.pop("calibration") == 1
    assert epochs == {
        "pretext": 10,
        "head_search": 10,
        "clustering": 1,
        "self_labeling": 1,
    }
    assert 0 < fitted.history_["self_labeling"][0]["confident"] <= 1
    assert fitted.history_["head_search"][0]["entropy"] <= np.log(10) + 1e-5


def test_predictions_agree_with_each_other(fitted, digits):
    X = digits[0]
    proba = fitted.predict_proba(X)
    assert proba.dtype == np.float32
    np.testing.assert_allclose(proba.sum(axis=1), 1, rtol=1e-5)
    np.testing.assert_array_equal(proba.argmax(axis=1), fitted.labels_)
    np.testing.assert_array_equal(fitted.predict(X), fitted.labels_)
    np.testing.assert_allclose(proba.max(axis=1), fitted.confidence_, rtol=1e-4)
    np.testing.assert_allclose(fitted.transform(X), fitted.embedding_, atol=1e-4)


def test_one_sample_is_predicted_as_in_a_batch(fitted, digits):
    X = digits[0][:50]
    alone = np.concatenate([fitted.predict_proba(X[i : i + 1]) for i in range(len(X))])
    # In bfloat16, some CPUs add up batches of other sizes in another order.
    np.testing.assert_allclose(alone, fitted.predict_proba(X), atol=1e-3)


def test_prototypes_are_confident_members(fitted):
    for cluster, sample in enumerate(fitted.prototypes_):
        members = np.flatnonzero(fitted.labels_ == cluster)
        if len(members) == 0:
            assert sample == -1
            continue
        assert sample in members
        rank = (fitted.confidence_[members] > fitted.confidence_[sample]).sum()
        assert rank < 10


def test_score_ignores_y_and_prefers_the_fitted_network(fitted, digits):
    X, y = digits
    score = fitted.score(X)
    assert score == fitted.score(X, y)
    assert score < 1 - 1 / 10
    shuffled = joblib.load(_dump_to_memory(fitted))
    heads = shuffled.net_.module_.heads.linear
    with torch.no_grad():
        heads.weight.copy_(torch.randn_like(heads.weight))
    assert shuffled.score(X) < score


def _dump_to_memory(estimator):
    import io

    buffer = io.BytesIO()
    joblib.dump(estimator, buffer)
    buffer.seek(0)
    return buffer


def test_methods_ask_to_be_fitted_first(digits):
    for method in ("predict", "predict_proba", "transform", "score"):
        with pytest.raises(NotFittedError):
            getattr(SCANClustering(), method)(digits[0])


# Inputs.


def test_layouts_types_and_containers_give_the_same_labels(digits, tmp_path, device):
    images = (digits[0][:200] * 15).astype(np.uint8)
    memmap = np.memmap(tmp_path / "images", np.uint8, "w+", shape=images.shape)
    memmap[:] = images
    memmap.flush()
    read_only = np.memmap(tmp_path / "images", np.uint8, "r", shape=images.shape)
    same = {
        "(n, h, w)": images,
        "(n, h, w, 1)": images[..., None],
        "(n, 1, h, w)": images[:, None],
        "memmap": read_only,
        "torch": torch.from_numpy(images),
    }
    labels = {
        name: quick(device=device).fit(X).labels_.tolist() for name, X in same.items()
    }
    rows = quick(image_shape=(8, 8), device=device).fit(images.reshape(200, -1))
    labels["rows"] = rows.labels_.tolist()
    assert len(set(map(tuple, labels.values()))) == 1, labels


@pytest.mark.parametrize("scale, offset", [(1 / 16, 0), (1, 0), (255 / 16, 0), (1, -8)])
def test_ranges_are_learned_and_applied(digits, scale, offset):
    X = digits[0] * scale + offset
    clusterer = quick().fit(X[:200])
    np.testing.assert_array_equal(clusterer.predict(X[:200]), clusterer.labels_)
    # A batch that lacks the extremes is decoded as in training.
    np.testing.assert_array_equal(clusterer.predict(X[:1]), clusterer.labels_[:1])


def test_color_images_in_both_layouts():
    rng = np.random.default_rng(0)
    X = rng.integers(0, 256, size=(60, 12, 10, 3), dtype=np.uint8)
    last = quick(n_clusters=3).fit(X)
    first = quick(n_clusters=3).fit(X.transpose(0, 3, 1, 2))
    np.testing.assert_array_equal(last.labels_, first.labels_)


def test_float32_rows_stay_float32(blobs):
    X, _ = blobs
    clusterer = quick(n_clusters=3, pretext="auto").fit(X)
    assert clusterer.transform(X).dtype == np.float32
    assert clusterer.predict_proba(X).dtype == np.float32


# Pretexts.


def test_any_transformer_is_a_pretext(digits):
    X, _ = digits
    clusterer = quick(pretext=make_pipeline(MinMaxScaler(), PCA(8))).fit(X)
    assert clusterer.embedding_.shape == (len(X), 8)
    np.testing.assert_array_equal(clusterer.predict(X), clusterer.labels_)
    assert clusterer.get_params()["pretext__pca__n_components"] == 8
    # The unset seed of the pretext was set on a copy.
    assert clusterer.pretext.named_steps["pca"].random_state is None
    assert clusterer.pretext_.named_steps["pca"].random_state is not None


def test_an_encoder_of_the_user(digits):
    X, _ = digits
    clusterer = quick(
        pretext=SimCLR(encoder=small_encoder, epochs=1), views="affine"
    ).fit(X)
    assert clusterer.embedding_.shape == (len(X), 16)


def small_encoder(shape):
    return torch.nn.Sequential(
        torch.nn.Flatten(), torch.nn.Linear(int(np.prod(shape)), 16), torch.nn.ReLU()
    )


def test_rows_with_an_encoder_train_a_pretext(blobs):
    clusterer = quick(n_clusters=3, pretext="auto", encoder="mlp", views="vector")
    assert isinstance(clusterer.fit(blobs[0]).pretext_, SimCLR)


def test_the_pretext_may_hold_the_image_shape(digits):
    rows = digits[0][:200].reshape(200, -1)
    clusterer = quick(pretext=SimCLR(epochs=1, image_shape=(8, 8))).fit(rows)
    assert clusterer.image_shape_ == (8, 8)
    np.testing.assert_array_equal(clusterer.predict(rows), clusterer.labels_)


# Small and strange data: a defined result.


@pytest.mark.parametrize("n_clusters", [1, 2])
@pytest.mark.parametrize("shape", [(10, 8, 8), (10, 4), (30, 1), (2, 5), (3, 8, 8, 3)])
def test_tiny_data(n_clusters, shape):
    X = np.random.default_rng(0).random(shape)
    # How long the default pretext is has nothing to do with the number of clusters.
    is_default = n_clusters == 1 or len(shape) == 2
    clusterer = quick(
        n_clusters=n_clusters,
        pretext="auto" if is_default else SimCLR(epochs=2),
        head_search=TrainingConfig(epochs=5),
    )
    labels = clusterer.fit(X).labels_
    assert set(labels) <= set(range(n_clusters))
    assert len(labels) == len(X)


@pytest.mark.parametrize(
    "X",
    [
        np.zeros((40, 8, 8)),
        np.full((40, 8, 8, 3), 7, dtype=np.uint8),
        np.tile(np.random.default_rng(0).random((1, 8, 8)), (40, 1, 1)),
        np.ones((40, 5)),
    ],
    ids=["black", "constant", "duplicates", "equal rows"],
)
def test_identical_samples_share_a_cluster(X):
    with pytest.warns(ConvergenceWarning, match=r"fill 1 of n_clusters=3"):
        clusterer = quick(n_clusters=3).fit(X)
    assert len(set(clusterer.labels_)) == 1
    assert (clusterer.prototypes_ >= 0).sum() == 1


def test_neighbors_are_fewer_than_half_of_a_cluster(blobs):
    X, _ = blobs
    clusterer = quick(n_clusters=5, K=1000, pretext="auto").fit(X)
    assert clusterer.neighbors_.shape == (150, 15)


def test_nothing_confident_leaves_self_labelling_out(digits):
    with pytest.warns(ConvergenceWarning, match="Self-labelling was left out"):
        clusterer = quick(threshold=1.0).fit(digits[0][:200])
    assert "self_labeling" not in clusterer.history_


# Being a scikit-learn estimator.


def test_clone_and_set_params(fitted):
    twin = clone(fitted)
    assert not hasattr(twin, "labels_")
    twin.set_params(K=7, pretext__temperature=0.3)
    assert twin.get_params()["pretext__temperature"] == 0.3
    assert fitted.pretext.temperature == 0.5


def test_pickles_predict_the_same(fitted, digits, tmp_path):
    import pickle

    joblib.dump(fitted, tmp_path / "clusterer.joblib")
    copies = [
        pickle.loads(pickle.dumps(fitted)),
        joblib.load(tmp_path / "clusterer.joblib"),
        joblib.load(tmp_path / "clusterer.joblib", mmap_mode="r"),
    ]
    for twin in copies:
        np.testing.assert_array_equal(twin.predict(digits[0]), fitted.labels_)
        assert twin.history_ == fitted.history_


def test_in_a_pipeline(digits):
    X = digits[0][:200]
    rows = X.reshape(len(X), -1)
    pipeline = make_pipeline(MinMaxScaler(), quick(image_shape=(8, 8)))
    labels = pipeline.fit_predict(rows)
    np.testing.assert_array_equal(pipeline.predict(rows), labels)
    assert pipeline.predict_proba(rows).shape == (len(X), 10)


def test_set_output_gives_a_data_frame(fitted, digits):
    fitted = joblib.load(_dump_to_memory(fitted)).set_output(transform="pandas")
    frame = fitted.transform(digits[0][:3])
    assert list(frame.columns[:2]) == ["scanclustering0", "scanclustering1"]
    assert frame.shape == (3, fitted.embedding_.shape[1])


def test_html_repr_shows_parameters_and_attributes(fitted):
    html = fitted._repr_html_()
    assert "threshold" in html
    assert "labels_" in html


def test_fit_changes_no_parameter(digits):
    clusterer = quick()
    before = {k: repr(v) for k, v in clusterer.get_params().items()}
    clusterer.fit(digits[0][:200])
    assert {k: repr(v) for k, v in clusterer.get_params().items()} == before
