# SPDX-License-Identifier: BSD-3-Clause
"""Break the package in one place at a time, and see whether the tests notice.

    python tests/sabotage.py [NAME ...] [--jobs 2] [--list]

A suite that is green says that the tests pass, and not that they would fail. Here every
fault is applied alone, to a copy of the package, and the test files that should notice
it are run on that copy. A fault that none of them notices is a gap in the tests; it is
closed by a test of what should hold, and not by one of the line.

NAME is any part of a fault's name. Without names, all faults are run. `--list` only
checks that every fault still fits the source, which takes no time.
"""

import argparse
import io
import multiprocessing
import os
import re
import shutil
import signal
import sys
import tempfile
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = "sklearn_scan"

# Longer than any of the selections takes on a busy machine, and pytest's status then.
SECONDS = 600
TOO_LONG = 99

# Done once, before processes are forked: together they take longer than most tests.
SLOW_IMPORTS = [
    "matplotlib",
    "pandas",
    "pytest",
    "scipy.optimize",
    "skorch",
    "sklearn.callback",
    "sklearn.datasets",
    "sklearn.model_selection",
    "sklearn.neighbors",
    "sklearn.pipeline",
    "torch",
]

# Loaded by pytest in the copy: what is tested there must be the copy, and not a package
# that happens to be installed.
PLUGIN = """
from pathlib import Path

import pytest
import sklearn_scan


def pytest_sessionstart():
    if Path(sklearn_scan.__file__).parents[1] != Path(__file__).parent:
        raise pytest.UsageError(f"{sklearn_scan.__file__} is not the copy")
"""


@dataclass(frozen=True)
class Fault:
    """One change of the source that makes it wrong.

    Attributes
    ----------
    name : str
        What is wrong then.
    file : str
        Within the package.
    text : str
        A piece of a line that occurs once in the file.
    replacement : str
        What is put in its place.
    tests : str
        The test files that should notice, by what follows "test_".
    """

    name: str
    file: str
    text: str
    replacement: str
    tests: str

    @property
    def test_files(self):
        return [find_test(name) for name in self.tests.split()]

    def complaint(self):
        """Say why the fault does not fit the source, or return None."""
        path = ROOT / PACKAGE / self.file
        if not path.exists():
            return f"there is no {PACKAGE}/{self.file}"
        n_found = path.read_text().count(self.text)
        if n_found != 1:
            return f"{self.file} holds {n_found} times, and not once: {self.text}"
        missing = [file for file in self.test_files if not (ROOT / file).exists()]
        return f"there is no {missing[0]}" if missing else None

    def apply(self, copy):
        path = copy / PACKAGE / self.file
        changed = path.read_text().replace(self.text, self.replacement)
        compile(changed, path, "exec")
        path.write_text(changed)


def find_test(name):
    """Return the path, from the root, of the test file of this name."""
    found = sorted((ROOT / "tests").rglob(f"test_{name}.py"))
    return str(found[0].relative_to(ROOT)) if found else f"tests/test_{name}.py"


FAULTS = [
    # Mining.
    Fault(
        "a sample is mined as its own neighbour",
        "neighbors.py",
        "is_other = candidates != first + np.arange(len(candidates))[:, None]",
        "is_other = np.ones(candidates.shape, dtype=bool)",
        "neighbors",
    ),
    Fault(
        "the cosine is taken of rows that are not of unit length",
        "neighbors.py",
        'rows = _unit_rows(rows) if metric == "cosine" else _unit_scale(rows)',
        "rows = _unit_scale(rows)",
        "neighbors",
    ),
    Fault(
        "neighbours that rounding hides are not searched for again",
        "_tiled_search.py",
        "if len(uncertain):",
        "if False:",
        "tiled_search",
    ),
    Fault(
        "rounding is not thought to hide any neighbour",
        "_tiled_search.py",
        "return least >= (reach + moved).square() / 2",
        "return least >= reach.square() / 2",
        "tiled_search",
    ),
    Fault(
        "rounded candidates are not compared in float32",
        "_tiled_search.py",
        "distances = self._compare(part, candidates)",
        "distances = rounded",
        "tiled_search",
    ),
    Fault(
        "a sample stays among the neighbours that fit is given",
        "neighbors.py",
        "neighbors[neighbors == np.arange(n_samples)[:, None]] = -1",
        "pass",
        "wiring",
    ),
    Fault(
        "the farthest of the mined neighbours are kept",
        "_stages/_mining.py",
        "neighbors[:, :K])",
        "neighbors[:, -K:])",
        "wiring wiring_cache",
    ),
    Fault(
        "rows are mined by the cosine",
        "_backbone.py",
        "self.metric = choose_metric(embedding)",
        'self.metric = "cosine"',
        "wiring",
    ),
    Fault(
        "more neighbours are mined than a cluster has members",
        "_stages/_mining.py",
        "half_a_cluster = max(1, n_samples // (2 * n_clusters))",
        "half_a_cluster = n_samples",
        "wiring",
    ),
    # Batches.
    Fault(
        "the neighbour that is drawn is always the nearest",
        "_engine/_data.py",
        "column = (torch.rand(len(indices)) * self.counts[indices]).long()",
        "column = torch.zeros(len(indices), dtype=torch.int64)",
        "engine wiring",
    ),
    Fault(
        "a sample is paired with itself",
        "_engine/_data.py",
        "return self.neighbors[indices, column]",
        "return indices",
        "engine wiring",
    ),
    Fault(
        "batches are not shuffled",
        "_engine/_data.py",
        "return torch.randperm(len(self))",
        "return torch.arange(len(self))",
        "engine wiring_tasks",
    ),
    Fault(
        "the last batch is left out",
        "_engine/_data.py",
        "for k in range(self.n_batches):",
        "for k in range(max(1, self.n_batches - 1)):",
        "engine wiring_tasks",
    ),
    # Views.
    Fault(
        "a batch shares one random draw",
        "_views/_base.py",
        "drawn = torch.rand(len(batch), device=batch.device, dtype=batch.dtype)",
        "drawn = torch.rand(1, device=batch.device).expand(len(batch))",
        "views",
    ),
    Fault(
        "maps are composed in the opposite order",
        "_views/_geometry.py",
        "reduce(torch.matmul, maps)",
        "reduce(torch.matmul, maps[::-1])",
        "views",
    ),
    Fault(
        "what lies outside of an image is black",
        "_views/_geometry.py",
        "fill = border_median(images)",
        "fill = torch.zeros_like(border_median(images))",
        "views",
    ),
    Fault(
        "the GPU is waited for by every strong view",
        "_views/_strong.py",
        "sent = torch.from_numpy(sent).to(device, non_blocking=True)",
        "sent = torch.from_numpy(sent).to(device)",
        "fake_cuda",
    ),
    Fault(
        "images are sorted by operation, and stay so",
        "_views/_strong.py",
        "return images[back].clamp(0, 1)",
        "return images.clamp(0, 1)",
        "views",
    ),
    Fault(
        "the GPU is asked whose turn it is",
        "_losses.py",
        "is_early = self.step < self.n_steps // 4",
        "is_early = torch.tensor(int(self.step) < self.n_steps // 4)",
        "fake_cuda",
    ),
    Fault(
        "mirrors are drawn where they do harm",
        "_views/_policy.py",
        'flip = ["flip"] if is_harmless(',
        'flip = ["flip"] if not is_harmless(',
        "views",
    ),
    Fault(
        "objects are never inverted",
        "_views/_policy.py",
        'return ("affine", *flip, color, *invert)',
        'return ("affine", *flip, color)',
        "views",
    ),
    Fault(
        "objects are inverted where they do harm",
        "_views/_policy.py",
        "may_invert = not color_tells and is_harmless(",
        "may_invert = not color_tells and not is_harmless(",
        "views",
    ),
    Fault(
        "colour that tells is inverted",
        "_views/_policy.py",
        "color_tells = images.shape[1] == 3",
        "color_tells = False",
        "views",
    ),
    Fault(
        "opacity is inverted",
        "_views/_color.py",
        "dims = (1, 2, 3) if images.shape[1] == 3 else (2, 3)",
        "dims = (1, 2, 3)",
        "views",
    ),
    Fault(
        "pictures are inverted",
        "_views/_policy.py",
        'return ("crop", *flip, color)',
        'return ("crop", *flip, color, *["invert"] * is_harmless(images, negative))',
        "views",
    ),
    Fault(
        "negatives are those of the darkest and the lightest value",
        "_views/_color.py",
        "return low + high - images",
        "return 1 - images",
        "views",
    ),
    Fault(
        "the first images decide on views",
        "_views/_policy.py",
        "step = max(1, len(images) // _N_PROBES)",
        "step, images = 1, images[:1000]",
        "views",
    ),
    Fault(
        "all free colours are taken away",
        "_views/_policy.py",
        "ratio <= _HELPFUL",
        "ratio <= _HARMLESS",
        "views",
    ),
    Fault(
        "self-labelling draws the views of clustering",
        "_stages/_self_labeling.py",
        "source, strong=True)",
        "source, strong=False)",
        "wiring",
    ),
    Fault(
        "the views of a step are those of the clusterer",
        "_params.py",
        "clusterer.views if config.views is None else config.views",
        "clusterer.views",
        "wiring",
    ),
    # Networks.
    Fault(
        "another head is selected than was asked for",
        "_nets/_heads.py",
        "new.copy_(by_head[list(chosen)].flatten(0, 1))",
        "new.copy_(by_head[: len(chosen)].flatten(0, 1))",
        "nets",
    ),
    Fault(
        "heads compute in the precision of the network",
        "_nets/_heads.py",
        "with torch.autocast(features.device.type, enabled=False):",
        "if True:",
        "nets",
    ),
    Fault(
        "losses are computed in the precision of the network",
        "_nets/_heads.py",
        "return tensor.to(torch.promote_types(tensor.dtype, torch.float32))",
        "return tensor",
        "losses",
    ),
    Fault(
        "samples are not standardised",
        "_nets/_encoders.py",
        "batch = (batch - self.mean).mul_(self.scale)",
        "pass",
        "nets wiring_tasks",
    ),
    # Input.
    Fault(
        "the range of the images is not that of the training images",
        "_inputs/_formats.py",
        "return images.sub_(self.low).div_(self.high - self.low).clamp_(0, 1)",
        "return (raw - raw.min()) / (raw.max() - raw.min()).clamp_min(1e-6)",
        "arrays",
    ),
    Fault(
        "images with channels last are transposed",
        "_inputs/_formats.py",
        "raw = raw.permute(0, 3, 1, 2)",
        "raw = raw.permute(0, 3, 2, 1)",
        "arrays",
    ),
    Fault(
        "the orientation of photographs is ignored",
        "_inputs/_pictures.py",
        "picture = ImageOps.exif_transpose(picture)",
        "pass",
        "files",
    ),
    Fault(
        "samples of another range are accepted",
        "_inputs/_validation.py",
        "spec.format.check(X)",
        "pass",
        "wrong_inputs",
    ),
    # Training.
    Fault(
        "gradients add up from step to step",
        "_engine/_net.py",
        "self.optimizer_.zero_grad(set_to_none=True)",
        "pass",
        "engine wiring_tasks",
    ),
    Fault(
        "networks learn in evaluation mode",
        "_engine/_net.py",
        "self._set_training(training)",
        "self._set_training(False)",
        "engine wiring",
    ),
    Fault(
        "statistics of batch normalisation stay those of views",
        "_engine/_trainer.py",
        "update_bn(Batches(Samples(source), batch_size), encoder)",
        "pass",
        "engine wiring",
    ),
    Fault(
        "bfloat16 is float32",
        "_engine/_runtime.py",
        "enabled=precision in _HALF",
        "enabled=False",
        "engine",
    ),
    Fault(
        "TF32 passes for float32",
        "_engine/_tf32.py",
        'if device.type != "cuda":',
        "if True:",
        "tf32",
    ),
    Fault(
        "gradients in float16 are not scaled",
        "_engine/_net.py",
        "self.scaler_.scale(loss).backward()",
        "loss.backward()",
        "float16",
    ),
    Fault(
        "every seed is the same",
        "_engine/_runtime.py",
        "torch.default_generator.manual_seed(seed)",
        "torch.default_generator.manual_seed(0)",
        "engine",
    ),
    Fault(
        "all steps share one seed",
        "_engine/_runtime.py",
        "return dict(zip(names, (states >> 1).tolist(), strict=True))",
        "return dict.fromkeys(names, int(states[0] >> 1))",
        "engine wiring_tasks",
    ),
    # Schedules.
    Fault(
        "the learning rate does not fall",
        "_engine/_schedule.py",
        "return (1 + math.cos(math.pi * (done - _RISE) / (1 - _RISE))) / 2",
        "return 1.0",
        "effort wiring_tasks",
    ),
    Fault(
        "one cycle rises until nearly its end",
        "_engine/_schedule.py",
        "pct_start=0.1 if steps > 10 else 0.05,",
        "pct_start=0.9 if steps > 10 else 0.05,",
        "effort wiring_tasks",
    ),
    Fault(
        "one cycle goes forward once per epoch",
        "_engine/_schedule.py",
        'step_every="batch",',
        'step_every="epoch",',
        "effort wiring_tasks",
    ),
    Fault(
        "weights do not decay",
        "_engine/_schedule.py",
        "decay = float(self.weight_decay)",
        "decay = 0.0",
        "wiring_tasks",
    ),
    Fault(
        "few data get no more epochs",
        "_engine/_schedule.py",
        "return max(least, min(self.default_epochs, most))",
        "return min(self.default_epochs, most)",
        "engine wiring_tasks",
    ),
    Fault(
        "the learning rate of a step is not the one asked for",
        "_config.py",
        'lr if self.lr == "auto" else self.lr,',
        "lr,",
        "wiring_tasks",
    ),
    Fault(
        "the search of heads ends when its loss has settled",
        "_config.py",
        'ends_early=stage != "head_search",',
        "ends_early=True,",
        "effort wiring_tasks",
    ),
    # The cache of steps.
    Fault(
        "the cache does not know the settings of losses and views",
        "_engine/_checkpoint.py",
        "return type(module), code, _settings_of(module)",
        "return type(module), code",
        "wiring_cache",
    ),
    Fault(
        "every stage copies the samples to the GPU",
        "_backbone.py",
        "source.share()",
        "pass",
        "uploads",
    ),
    Fault(
        "the cache does not know what a step begins with",
        "_engine/_checkpoint.py",
        "k: v.cpu().numpy() for k, v in module.state_dict().items()",
        "k: 0 for k in module.state_dict()",
        "wiring_cache",
    ),
    Fault(
        "the cache does not know how a step is trained",
        "_engine/_checkpoint.py",
        '"settings": fingerprint(vars(schedule) | {"optimizer": None}),',
        "",
        "wiring_cache",
    ),
    Fault(
        "the cache does not know the neighbours",
        "_engine/_checkpoint.py",
        '"data": (stage.data.source.array, stage.data.identity),',
        '"data": stage.data.source.array,',
        "engine",
    ),
    Fault(
        "the cache of the pretext knows how much it prints",
        "pretext/_caching.py",
        'device="auto", verbose=0, precision=',
        'device="auto", precision=',
        "wiring_cache",
    ),
    Fault(
        "the cache of the pretext does not know the precision",
        "pretext/_caching.py",
        "precision=trainer.runtime.precision",
        'precision="auto"',
        "wiring_cache",
    ),
    Fault(
        "the cache keeps a step that was stopped",
        "_engine/_trainer.py",
        "    if was_stopped:",
        "    if False:",
        "wiring_cache",
    ),
    # Checkpoints.
    Fault(
        "a resumed optimiser has forgotten its moments",
        "_engine/_checkpoint.py",
        'net.optimizer_.load_state_dict(state["optimizer"])',
        "pass",
        "wiring_cache",
    ),
    Fault(
        "a resumed scaler begins anew",
        "_engine/_checkpoint.py",
        'net.scaler_.load_state_dict(state["scaler"])',
        "pass",
        "float16",
    ),
    Fault(
        "a resumed generator begins anew",
        "_engine/_checkpoint.py",
        '_set_generators(state["generators"], net.runtime.device)',
        "pass",
        "wiring_cache",
    ),
    Fault(
        "a resumed step takes all of its epochs again",
        "_engine/_trainer.py",
        "max_epochs=epochs - n_done,",
        "max_epochs=epochs,",
        "wiring_cache",
    ),
    # What is printed.
    Fault(
        "a log is told of every step",
        "_console.py",
        "if is_printed or time.perf_counter() - self.last >= self.seconds:",
        "if True:",
        "console",
    ),
    Fault(
        "processes draw over each other",
        "_console.py",
        "return in_main_thread and multiprocessing.parent_process() is None",
        "return in_main_thread",
        "console",
    ),
    Fault(
        "a bar is drawn below that of another library",
        "_console.py",
        'if _stream_kind() == "rich.file_proxy" or os.environ.get("TERM") == "dumb":',
        'if os.environ.get("TERM") == "dumb":',
        "console",
    ),
    Fault(
        "a stage that goes on has forgotten how long it took",
        "_engine/_progress.py",
        "self.line.begin = self.recorder.begin_",
        "pass",
        "variants",
    ),
    # Pretext tasks.
    Fault(
        "the clusterer and its pretext share their weights",
        "pretext/_encoder.py",
        "return copy.deepcopy(self.net_.module_.encoder)",
        "return self.net_.module_.encoder",
        "wiring",
    ),
    Fault(
        "an embedding is not of unit length",
        "pretext/_encoder.py",
        "return nn.Sequential(self.make_encoder(), UnitLength())",
        "return nn.Sequential(self.make_encoder())",
        "wiring",
    ),
    Fault(
        "SimCLR compares a view with itself",
        "pretext/_simclr.py",
        "both = torch.cat([self.views(samples), self.views(samples)])",
        "both = torch.cat([self.views(samples)] * 2)",
        "wiring_tasks",
    ),
    Fault(
        "SimCLR looks for a view among others and itself",
        "pretext/_simclr.py",
        "similarity.fill_diagonal_(-torch.inf)",
        "pass",
        "losses",
    ),
    Fault(
        "the temperature multiplies",
        "pretext/_simclr.py",
        "similarity = z @ z.T / self.temperature",
        "similarity = z @ z.T * self.temperature",
        "losses",
    ),
    Fault(
        "a slow copy is a fast one",
        "pretext/_momentum.py",
        "torch._foreach_lerp_(weights, followed, 1 - self.momentum)",
        "torch._foreach_lerp_(weights, followed, self.momentum)",
        "contrastive_tasks wiring_tasks",
    ),
    Fault(
        "the queue of MoCo does not move on",
        "pretext/_moco.py",
        "self.oldest.copy_((self.oldest + len(keys)) % size)",
        "pass",
        "contrastive_tasks",
    ),
    Fault(
        "MoCo pushes a sample away from its own earlier keys",
        "pretext/_moco.py",
        ".masked_fill(is_own, -torch.inf)",
        "",
        "contrastive_tasks",
    ),
    Fault(
        "the keys of MoCo are samples as they are",
        "pretext/_moco.py",
        "keys = self.target(self.views(samples))",
        "keys = self.target(samples)",
        "wiring_tasks",
    ),
    Fault(
        "the target of BYOL stays at its start",
        "pretext/_byol.py",
        "self.target.follow(self.encoder, self.projector)",
        "pass",
        "contrastive_tasks wiring_tasks",
    ),
    Fault(
        "BYOL predicts the target of the same view",
        "pretext/_byol.py",
        "(first * second_target)",
        "(first * first_target)",
        "contrastive_tasks",
    ),
    Fault(
        "VICReg spreads dimensions that it should decorrelate",
        "pretext/_vicreg.py",
        "off_diagonal = covariance - covariance.diagonal().diag()",
        "off_diagonal = covariance",
        "vicreg",
    ),
    Fault(
        "the bank of instance discrimination remembers nothing",
        "pretext/_instance_discrimination.py",
        "self.bank.update(indices, projections, self.bank.momentum)",
        "pass",
        "contrastive_tasks",
    ),
    Fault(
        "rotations are numbered sample by sample",
        "pretext/_rotation.py",
        "numbers.repeat_interleave(len(rotated) // N_ROTATIONS)",
        "numbers.repeat(len(rotated) // N_ROTATIONS)",
        "predictive_tasks",
    ),
    Fault(
        "feature decoupling compares with what it has just seen",
        "pretext/_feature_decoupling.py",
        "copies.register_hook(lambda gradient: self.remember(seen, indices))",
        "self.remember(seen, indices)",
        "predictive_tasks",
    ),
    Fault(
        "DeepCluster keeps a classifier of clusters that are gone",
        "pretext/_deep_cluster.py",
        "            self.restart_classifier()",
        "            pass",
        "predictive_tasks",
    ),
    Fault(
        "the standard deviation of weights from elsewhere multiplies",
        "pretext/_pretrained.py",
        'buffer.copy_(values if name == "mean" else 1 / values)',
        "buffer.copy_(values)",
        "wiring_tasks",
    ),
    # What fit and predict say.
    Fault(
        "chance is left in the score",
        "_criteria.py",
        "agreement - shares",
        "agreement - 0 * shares",
        "wiring",
    ),
    Fault(
        "candidates are judged in the first embedding alone",
        "model_selection/_search.py",
        "return list({(each.shape, each.tobytes()): each for each in rows}.values())",
        "return rows[:1]",
        "label_free_search",
    ),
    Fault(
        "the worst candidate is kept",
        "model_selection/_pooling.py",
        "return int(self.order[0])",
        "return int(self.order[-1])",
        "label_free_search",
    ),
    Fault(
        "confidence is not that of the label",
        "_scan.py",
        "self.confidence_ = soften(probabilities, self.temperature_).max(axis=1)",
        "self.confidence_ = soften(probabilities, self.temperature_).min(axis=1)",
        "wiring",
    ),
    Fault(
        "probabilities are sharpened by the temperature",
        "_calibration.py",
        "type(1 / temperature)",
        "type(temperature)",
        "trust",
    ),
    Fault(
        "a sample agrees with itself",
        "_calibration.py",
        "distances[np.arange(len(members)), members] = np.inf",
        "distances[np.arange(len(members)), members] = -np.inf",
        "trust",
    ),
    Fault(
        "near samples are the farthest",
        "_calibration.py",
        "np.argpartition(distances, n_near - 1, axis=1)",
        "np.argpartition(-distances, n_near - 1, axis=1)",
        "trust",
    ),
    Fault(
        "the rate is the share that is kept",
        "_novelty.py",
        "np.quantile(self.scores, 1 - rate)",
        "np.quantile(self.scores, rate)",
        "trust",
    ),
    Fault(
        "novelty does not look at what is usual",
        "_novelty.py",
        "np.sqrt(reach * usual)",
        "np.sqrt(np.median(reach) * np.median(reach)) * np.ones(len(reach))",
        "trust",
    ),
    Fault(
        "what was known is not forgotten",
        "pretext/_encoder.py",
        '("_backbone", "_known_samples")',
        '("_backbone",)',
        "trust",
    ),
    Fault(
        "prototypes are the least confident",
        "_stages/_finishing.py",
        "order = np.argsort(-confidence[members]",
        "order = np.argsort(confidence[members]",
        "wiring",
    ),
    # The losses and networks of clustering.
    Fault(
        "clusters are used by as few samples as possible",
        "_losses.py",
        "return consistency - entropy_weight * entropy, consistency, entropy",
        "return consistency + entropy_weight * entropy, consistency, entropy",
        "losses",
    ),
    Fault(
        "the entropy is that of samples",
        "_losses.py",
        "marginal = log_p.exp().mean(dim=-1)",
        "marginal = log_p.exp()[..., 0]",
        "losses",
    ),
    Fault(
        "small batches forget those before",
        "_losses.py",
        "return max(0.0, (n_batches - 1) / (n_batches + 1))",
        "return 0.0",
        "sizes",
    ),
    Fault(
        "the gradient of a small batch is that of its share in the average",
        "_losses.py",
        "return self.average / self.correction + (marginal - present)",
        "return self.average / self.correction + (1 - momentum) * (marginal - present)",
        "sizes",
    ),
    Fault(
        "the average of batches begins at zero",
        "_losses.py",
        "return self.average / self.correction + (marginal - present)",
        "return self.average + (marginal - present)",
        "sizes",
    ),
    Fault(
        "clusters have the sizes that are given in their order",
        "_losses.py",
        "ordered = marginal.sort(dim=-1).values",
        "ordered = marginal",
        "sizes",
    ),
    Fault(
        "neighbours are seen as they are",
        "_nets/_cluster_network.py",
        "anchors, others = self.views(samples), self.views(neighbors)",
        "anchors, others = self.views(samples), neighbors",
        "wiring",
    ),
    Fault(
        "batch statistics mix samples and neighbours",
        "_nets/_cluster_network.py",
        "if any(map(_takes_statistics, self.encoder.modules())):",
        "if False:",
        "wiring",
    ),
    Fault(
        "the statistics of a frozen encoder move",
        "_nets/_cluster_network.py",
        "        if self.is_frozen:",
        "        if False:",
        "wiring",
    ),
    Fault(
        "the encoder does not learn in clustering",
        "_stages/_clustering.py",
        "with network.frozen_encoder(plan.freeze_encoder):",
        "with network.frozen_encoder(True):",
        "wiring",
    ),
    Fault(
        "clustering draws no views",
        "_stages/_clustering.py",
        "network.views = evaluator.views",
        "pass",
        "wiring",
    ),
    Fault(
        "clustering changes the network that it may lose to",
        "_stages/_clustering.py",
        "network = copy.deepcopy(network)",
        "pass",
        "wiring",
    ),
    # The choice between heads and between steps.
    Fault(
        "of heads trained on views the worst is chosen",
        "_stages/_evaluation.py",
        "int(losses.argmin())",
        "int(losses.argmax())",
        "wiring",
    ),
    Fault(
        "both sides of the judge see the same views",
        "_stages/_evaluation.py",
        "return first, first if self.views is None else self._look(network)",
        "return first, first",
        "wiring",
    ),
    Fault(
        "every result is kept",
        "_stages/_selection.py",
        "kept = bool(is_lower or is_better)",
        "kept = True",
        "wiring",
    ),
    Fault(
        "a step is compared with the first instead of the best",
        "_stages/_selection.py",
        "            self.network, self.loss = candidate, loss",
        "            self.network, self.loss = self.network or candidate, loss",
        "wiring",
    ),
    Fault(
        "the answers of a network are those of the one before",
        "_stages/_selection.py",
        "if answers.network is network:",
        "if answers is not None:",
        "wiring",
    ),
    Fault(
        "no step refreshes the statistics of batch normalisation",
        "_stages/_finishing.py",
        "if any(p.requires_grad for p in network.encoder.parameters()):",
        "if False:",
        "wiring",
    ),
    # Self-labelling.
    Fault(
        "a sample at the threshold counts",
        "_losses.py",
        "return confidence > threshold",
        "return confidence >= threshold",
        "losses wiring",
    ),
    Fault(
        "clusters are not balanced",
        "_losses.py",
        "if self.balanced:",
        "if False:",
        "losses wiring",
    ),
    Fault(
        "the encoder is detached in self-labelling",
        "_stages/_self_labeling.py",
        "return weak, self.network.logits(self.views(samples))[0]",
        "features = self.network.encoder(self.views(samples)).detach()\n"
        "        return weak, self.network.heads(features)[0]",
        "wiring",
    ),
    Fault(
        "pseudo-labels depend on the rest of the batch",
        "_stages/_self_labeling.py",
        "self.network.eval()",
        "pass",
        "wiring",
    ),
    Fault(
        "pseudo-labels are those of views",
        "_stages/_self_labeling.py",
        "weak = self.network.logits(samples)[0]",
        "weak = self.network.logits(self.views(samples))[0]",
        "wiring",
    ),
    Fault(
        "self-labelling draws no views",
        "_stages/_self_labeling.py",
        "return weak, self.network.logits(self.views(samples))[0]",
        "return weak, self.network.logits(samples)[0]",
        "wiring",
    ),
    Fault(
        "self-labelling begins without a confident sample",
        "_stages/_self_labeling.py",
        "if left_out and n_found",
        "if False and n_found",
        "wiring",
    ),
    Fault(
        "self-labelling may lose clusters",
        "_stages/_selection.py",
        'loses_clusters = self.keep == "best" and self._loses_clusters(candidate)',
        "loses_clusters = False",
        "wiring",
    ),
    Fault(
        "self-labelling is kept whatever it did",
        "_stages/_selection.py",
        'kept = self.keep == "last" or (is_better and not loses_clusters)',
        "kept = not loses_clusters",
        "wiring",
    ),
    Fault(
        "self-labelling may say something else",
        "_stages/_selection.py",
        'agrees = is_as_good(comparison, ["agreement"])',
        "agrees = True",
        "wiring",
    ),
    Fault(
        "self-labelling with a lower loss is discarded",
        "_stages/_selection.py",
        "is_lower = loss <= self.loss < np.inf",
        "is_lower = False",
        "wiring",
    ),
    Fault(
        "clusters that are left out are pushed away",
        "_losses.py",
        "strong = strong.masked_fill(is_out, torch.finfo(strong.dtype).min)",
        "pass",
        "wiring",
    ),
    Fault(
        "the shortlist has the worst heads",
        "_stages/_head_search.py",
        "best = losses.argsort()[:_MOST_TRAINED].tolist()",
        "best = losses.argsort(descending=True)[:_MOST_TRAINED].tolist()",
        "head_search",
    ),
    Fault(
        "heads on rows are shortlisted by the loss",
        "_stages/_head_search.py",
        "if partitions and samples.is_learned:",
        "if partitions:",
        "head_search",
    ),
    Fault(
        "heads begin at random",
        "_stages/_head_search.py",
        "fit_partitions(heads, graph.rows, partitions)",
        "pass",
        "head_search",
    ),
    Fault(
        "pieces that nothing joins are not looked for",
        "_stages/_head_search.py",
        "if n_pieces != heads.n_classes:",
        "if True:",
        "head_search",
    ),
    Fault(
        "the number of clusters is the median and not the first vote",
        "_stages/_counting.py",
        "return self.votes[self.criterion]",
        "return _median(self.votes)",
        "n_clusters",
    ),
    Fault(
        "partitions are stable if they predict themselves",
        "_stages/_trials.py",
        "measure_strength(of_graph[subset], of_subset)",
        "measure_strength(of_graph[subset], of_graph[subset])",
        "n_clusters",
    ),
    Fault(
        "the silhouette of k-means is that of the graph",
        "_stages/_trials.py",
        '"kmeans_silhouettes": pair[1]',
        '"kmeans_silhouettes": pair[0]',
        "n_clusters",
    ),
    Fault(
        "partitions are of the rows alone",
        "_stages/_partitions.py",
        "if has_edges(neighbors):",
        "if False:",
        "head_search",
    ),
    Fault(
        "the head that cuts most is chosen",
        "_stages/_graph.py",
        "candidates[int(np.argmin(",
        "candidates[int(np.argmax(",
        "head_search",
    ),
    Fault(
        "a cut is counted by samples and not by clusters",
        "_stages/_partitions.py",
        "return shares.mean() + ",
        "return n_cut.sum() / max(n_edges.sum(), 1) + ",
        "head_search",
    ),
    Fault(
        "large clusters are split to make sizes equal",
        "_stages/_following.py",
        "if graph.cut(partition) >= limit:",
        "if True:",
        "head_search",
    ),
    Fault(
        "a head gives way to any other",
        "_stages/_following.py",
        "limit = cut - max(share * cut, _LEAST_CUT)",
        "limit = np.inf",
        "head_search",
    ),
    Fault(
        "a head follows a partition by the random numbers of its training",
        "_stages/_head_search.py",
        'with context.isolated("following"):',
        "if True:",
        "head_search",
    ),
    Fault(
        "nobody is told that clusters are of different sizes",
        "_stages/_head_search.py",
        "return network, samples.sample_weight",
        "return network, None",
        "head_search",
    ),
    Fault(
        "a cut of nothing decides",
        "_stages/_head_search.py",
        "if graph.has_edges and not graph.is_learned:",
        "if not graph.is_learned:",
        "head_search",
    ),
    Fault(
        "clustering sees all samples equally often",
        "_stages/_context.py",
        "return NeighborPairs(self.source, self.neighbors, self.sample_weight)",
        "return NeighborPairs(self.source, self.neighbors)",
        "wiring",
    ),
    Fault(
        "in judging all samples count equally",
        "_stages/_evaluation.py",
        "weights = self.sample_weight[part]",
        "weights = torch.ones(len(part))",
        "losses wiring",
    ),
    Fault(
        "all neighbours pull alike in polishing",
        "_stages/_polishing.py",
        "agreement = (probabilities[anchors, None] * probabilities[chosen]).sum(dim=2)",
        "agreement = torch.ones(chosen.shape)",
        "head_search",
    ),
    Fault(
        "the weight of the entropy never falls",
        "_losses.py",
        "return torch.where(is_early, self.entropy_weight, self.final_weight)",
        "return self.entropy_weight",
        "head_search",
    ),
    Fault(
        "rows are whitened",
        "_nets/_encoders.py",
        "std = std.square().mean().sqrt().expand_as(std)",
        "pass",
        "nets",
    ),
    Fault(
        "features are kept without regard to the weights",
        "pretext/_pretrained.py",
        "identity.update(_digest_weights(encoder).encode())",
        "pass",
        "pretrained variants",
    ),
    Fault(
        "features are kept without regard to the size of images",
        "pretext/_pretrained.py",
        "prepared = None if preparation is None else preparation.describe()",
        "prepared = None",
        "pretrained",
    ),
    Fault(
        "a pretrained encoder is trained on by default",
        "_params.py",
        'if config is None or (config == "auto" and trains_on):',
        "if config is None:",
        "pretrained",
    ),
    Fault(
        "a pretrained encoder is never trained on",
        "_params.py",
        "return is_pretrained(clusterer) and not asks",
        "return is_pretrained(clusterer)",
        "pretrained",
    ),
    Fault(
        "features come in the order in which images were embedded",
        "pretext/_embedding.py",
        "embedding = np.stack([found[digest] for digest in digests])",
        "embedding = np.stack(list(found.values()))",
        "pretrained",
    ),
    Fault(
        "files that were changed are taken for what they were",
        "_disk/_digests.py",
        "if seen == [status.st_size, status.st_mtime_ns]:",
        "if True:",
        "files pretrained",
    ),
    Fault(
        "images of any size are scaled to fill the frame of a named encoder",
        "_inputs/_pictures.py",
        "ImageOps.fit(picture, size) if crop is None else crop(picture)",
        "ImageOps.fit(picture, size)",
        "pretrained",
    ),
    Fault(
        "decoded images are kept where others lie",
        "_inputs/_holding.py",
        "file.seek(n_before * images[0].nbytes)",
        "file.seek(0)",
        "files",
    ),
    Fault(
        "float32 features are computed in bfloat16",
        "pretext/_embedding.py",
        "with inference(device, runtime.precision):",
        'with inference(device, "bfloat16"):',
        "pretrained wiring_tasks",
    ),
    Fault(
        "no convolution is a product",
        "_nets/_encoders.py",
        "with fast_convolutions(batch) if self.training else nullcontext():",
        "with nullcontext():",
        "convolutions",
    ),
    Fault(
        "gradients of weights do not know the stride",
        "_nets/_convolutions.py",
        "(of_image, stride[0] * of_row, stride[1] * of_pixel, of_row, 1),",
        "(of_image, of_row, of_pixel, of_row, 1),",
        "convolutions",
    ),
    Fault(
        "tiny images are convolved with the kernel upside down",
        "_nets/_convolutions.py",
        "(slice(middle - y, middle - y + height), slice(",
        "(slice(middle + 1 + y - height, middle + 1 + y), slice(",
        "convolutions",
    ),
    Fault(
        "feature maps that are high or wide count as tiny",
        "_nets/_convolutions.py",
        "max(height, width) <= side // 2 + 1",
        "min(height, width) <= side // 2 + 1",
        "convolutions",
    ),
    Fault(
        "features of tiny images are views",
        "_nets/_convolutions.py",
        "return _unflatten(features, n_rows, len(weight)).detach()",
        "return _unflatten(features, n_rows, len(weight))",
        "convolutions",
    ),
    Fault(
        "convolutions of subclasses of Tensor are replaced",
        "_nets/_convolutions.py",
        "type(tensor) in (torch.Tensor, torch.nn.Parameter)",
        "isinstance(tensor, torch.Tensor)",
        "convolutions",
    ),
    Fault(
        "rows are looked at in bfloat16",
        "_inputs/_array.py",
        'precision = runtime.precision if is_image else "float32"',
        "precision = runtime.precision",
        "inference",
    ),
    Fault(
        "images are looked at in float32 whatever is asked for",
        "_inputs/_array.py",
        'precision = runtime.precision if is_image else "float32"',
        'precision = "float32"',
        "inference",
    ),
    Fault(
        "a search from the cache forgets how often samples are drawn",
        "_stages/_search_once.py",
        "return network.eval(), sample_weight",
        "return network.eval(), None",
        "wiring_cache",
    ),
    Fault(
        "a search for other sizes comes from the cache",
        "_stages/_search_once.py",
        "samples.is_learned, follows, context.seeds",
        "samples.is_learned, context.seeds",
        "wiring_cache",
    ),
    Fault(
        "the borderline of a cluster is its core again",
        "inspection/_gallery/_content.py",
        "m[n_core:][::-1][:n_borderline]",
        "m[:n_borderline]",
        "gallery_content",
    ),
    Fault(
        "a cluster is near to itself",
        "inspection/_gallery/_content.py",
        "& ~np.eye(n_clusters, dtype=bool)",
        "& np.ones((n_clusters, n_clusters), dtype=bool)",
        "gallery_content",
    ),
    Fault(
        "the thumbnails of a sheet are numbered from its end",
        "inspection/_gallery/_page.py",
        "slot_of[sheet.indices] = np.arange(len(sheet.indices))",
        "slot_of[sheet.indices] = np.arange(len(sheet.indices))[::-1]",
        "gallery",
    ),
    Fault(
        "a name can end the script that it is in",
        "inspection/_gallery/_page.py",
        '.replace("<", "\\\\u003c")',
        "",
        "gallery",
    ),
    Fault(
        "the title of the page is markup",
        "inspection/_gallery/_page.py",
        'html.escape(data["title"])',
        'data["title"]',
        "gallery",
    ),
    Fault(
        "a page is written over in place",
        "_disk/_writing.py",
        "            yield part\n            if is_synced:",
        "            yield path\n            return",
        "gallery",
    ),
    Fault(
        "thumbnails share the blocks of JPEG",
        "inspection/_gallery/_sprites.py",
        "_BLOCK = 8",
        "_BLOCK = 1",
        "gallery",
    ),
    Fault(
        "thumbnails are drawn where there is no room",
        "inspection/_gallery/_sprites.py",
        "            if room < 0:\n",
        "            if room < -(10**9):\n",
        "gallery",
    ),
    Fault(
        "the file of another clustering is read",
        "inspection/_gallery/_edits.py",
        'if found.get("digest") != digest_labels(fitted, n_clusters):',
        "if False:",
        "gallery_edits",
    ),
    Fault(
        "a wrong image keeps its cluster",
        "inspection/_gallery/_edits.py",
        "labels=np.where(is_wrong, -1, number[now]),",
        "labels=number[now],",
        "gallery_edits",
    ),
    Fault(
        "a merged cluster keeps its number",
        "inspection/_gallery/_edits.py",
        "number[kept] = np.arange(len(kept))",
        "number[kept] = kept",
        "gallery_edits",
    ),
    Fault(
        "a prototype that was moved shows its cluster still",
        "inspection/_gallery/_edits.py",
        "(shown >= 0) & is_changed[shown]",
        "shown < -1",
        "gallery_edits",
    ),
    # The command line.
    Fault(
        "a cell of the table begins a formula",
        "_cli/_labels.py",
        'return f"./{name}" if name.startswith(_BEGINS_FORMULA) else name',
        "return name",
        "names",
    ),
    Fault(
        "texts of the table are in quotes only where they must be",
        "_cli/_labels.py",
        "quoting=csv.QUOTE_NONNUMERIC",
        "quoting=csv.QUOTE_MINIMAL",
        "names",
    ),
    Fault(
        "file names that are no text cannot be kept",
        "_disk/_digests.py",
        "self.table.select(set(map(os.fsencode, places)))",
        "self.table.select(set(places))",
        "cluster",
    ),
    Fault(
        "the command writes into the folder of others",
        "_cli/_folder.py",
        "others = self._list_all()",
        "others = []",
        "cluster",
    ),
    Fault(
        "results of other settings stay",
        "_cli/_run.py",
        "self.out.discard(set(listed) - set(files))",
        "pass",
        "cluster",
    ),
    Fault(
        "a picture that has changed is not seen",
        "_cli/_run.py",
        'digest.update(f"{status.st_size} {status.st_mtime_ns}\\0".encode())',
        'digest.update(f"{status.st_size}\\0".encode())',
        "cluster",
    ),
    Fault(
        "a run from scratch that goes on decodes anew",
        "_cli/_run.py",
        "with config_context(in_memory_bytes=0):",
        "with config_context():",
        "cluster",
    ),
    Fault(
        "the model goes on writing into the cache of its run",
        "_persistence/_estimators.py",
        '_OF_ONE_MACHINE = {"device": "auto", "memory": None, "checkpoint": None}',
        '_OF_ONE_MACHINE = {"device": "auto"}',
        "saving",
    ),
    Fault(
        "a damaged array of a saved model is not noticed",
        "_persistence/_file.py",
        'if _digest(found) != node.get("sha256"):',
        "if False:",
        "hostile",
    ),
    Fault(
        "a file sets the folder of the cache as an attribute",
        "_persistence/_estimators.py",
        "taken = {*estimator.get_params(deep=False), *_LEFT_OUT, *_APART}",
        "taken = {*_LEFT_OUT, *_APART}",
        "hostile",
    ),
    Fault(
        "a saved model holds the samples again once it was asked for novelty",
        "_persistence/_estimators.py",
        '_LEFT_OUT = {"_skl_callbacks", "_sklearn_version", "_known_samples"}',
        '_LEFT_OUT = {"_skl_callbacks", "_sklearn_version"}',
        "learned",
    ),
    Fault(
        "a generator from a file reads memory of others",
        "_persistence/_values.py",
        "type(place) is int and 0 <= place <= _N_WORDS",
        "type(place) is int",
        "hostile",
    ),
    Fault(
        "merged heads from a file have groups out of bounds",
        "_persistence/_networks.py",
        "is_right = is_right and 0 <= groups.min() and groups.max() < heads.n_classes",
        "pass",
        "hostile",
    ),
    Fault(
        "a long list of strings is saved that cannot be read",
        "_persistence/_values.py",
        "if len(items) > _MOST_STRINGS and all(type(item) is str for item in items):",
        "if False:",
        "learned",
    ),
    Fault(
        "the model of a stranger puts any picture on the page",
        "_cli/_gallery.py",
        "if _leaves(name):",
        "if False:",
        "gallery_command",
    ),
    Fault(
        "errors on the command line hold control characters",
        "_cli/_errors.py",
        "click.echo(printable(shown.getvalue()), nl=False, err=True)",
        "click.echo(shown.getvalue(), nl=False, err=True)",
        "names",
    ),
    Fault(
        "stability is compared with all members of a cluster",
        "_criteria.py",
        "either = both.sum(axis=1, keepdims=True) + both.sum(axis=0) - both",
        "either = both.sum(axis=1, keepdims=True) + 0 * both",
        "stability",
    ),
    Fault(
        "stability is measured on all samples",
        "inspection/_stability.py",
        "estimator.embedding_[part]).labels_",
        "estimator.embedding_).labels_[part]",
        "stability",
    ),
    Fault(
        "the page takes doubtful clusters for stable ones",
        "inspection/_gallery/_page.py",
        "[UNSTABLE, STABLE]",
        "[0, 0]",
        "gallery_browser",
    ),
    Fault(
        "neighbours of other clusters are not marked",
        "inspection/_neighbors.py",
        "agree = others == own",
        "agree = others == others",
        "displays",
    ),
    Fault(
        "bins of confidence begin with their lower edge",
        "metrics.py",
        "np.ceil(confidence * n_bins).clip(1, n_bins).astype(int) - 1",
        "np.floor(confidence * n_bins).clip(0, n_bins - 2).astype(int)",
        "displays",
    ),
    Fault(
        "checksums of pictures are not looked at",
        "_inputs/_files.py",
        'if image.format != "PNG":',
        "if image.format:",
        "bad_files",
    ),
    Fault(
        "holes in memory add up",
        "_engine/_allocator.py",
        "            self._library.malloc_trim(0)\n            self._taken = None",
        "            self._taken = None",
        "effort",
    ),
    Fault(
        "a missing neighbour agrees",
        "_criteria.py",
        "(is_edge & (labels[neighbors] == labels[:, None]))",
        "(labels[neighbors] == labels[:, None])",
        "displays",
    ),
    Fault(
        "numbers on a map cover each other",
        "inspection/_map.py",
        ">= reach).any(axis=1).all()",
        ">= -1).any(axis=1).all()",
        "displays",
    ),
    Fault(
        "rows of images are drawn in one column",
        "inspection/_rows.py",
        "-(-len(rows) // _MOST_ROWS)",
        "1",
        "displays",
    ),
    Fault(
        "confident members are drawn twice",
        "inspection/_sizes.py",
        "ax.bar(places, heights - below, bottom=below",
        "ax.bar(places, heights, bottom=below",
        "displays",
    ),
    Fault(
        "the share of clusters in use is the entropy",
        "inspection/_curves.py",
        "lambda values, n: np.exp(values) / n",
        "lambda values, n: values / n",
        "displays",
    ),
    # Several processes.
    Fault(
        "batch normalisation sees the part of a batch that its process has",
        "_world/_splitting.py",
        "if func is F.batch_norm:",
        "if False:",
        "two_processes",
    ),
    Fault(
        "gradients of parts of a batch are averaged",
        "_world/_processes.py",
        "shares = [1.0 if id(p) in split else 1 / size for p in learning]",
        "shares = [1 / size for p in learning]",
        "two_processes",
    ),
    Fault(
        "every process embeds the whole folder",
        "pretext/_embedding.py",
        "share = np.array_split(part, size)[rank]",
        "share = part",
        "two_processes",
    ),
    Fault(
        "every process mines neighbours",
        "_stages/_mining.py",
        "neighbors = world().once(",
        "neighbors = (lambda mine: mine())(",
        "two_processes",
    ),
    Fault(
        "processes are not asked whether they have the same samples",
        "_inputs/_mixin.py",
        'world().check_same("X", digest_some(X))',
        "pass",
        "two_processes",
    ),
]


def select(parts):
    """Return the faults whose name holds one of the parts; all without parts."""
    return [
        fault
        for fault in FAULTS
        if not parts or any(part.lower() in fault.name.lower() for part in parts)
    ]


def check(faults):
    """Return one line for each fault that does not fit the source."""
    return [f"{f.name}: {why}" for f in faults if (why := f.complaint())]


def run_tests(fault, files):
    """Test a copy with a fault, or an intact one; return pytest's status and output.

    Runs in a process of its own, which begins without a trace of the package.
    """
    with tempfile.TemporaryDirectory(prefix="sabotage-") as folder:
        copy = Path(folder).resolve()
        for name in (PACKAGE, "tests", "benchmarks", "examples"):
            ignored = shutil.ignore_patterns("__pycache__")
            shutil.copytree(ROOT / name, copy / name, ignore=ignored)
        shutil.copy(ROOT / "pyproject.toml", copy)
        (copy / "only_the_copy.py").write_text(PLUGIN)
        if fault is not None:
            fault.apply(copy)
        os.chdir(copy)
        sys.path.insert(0, str(copy))
        os.environ["PYTHONPATH"] = str(copy)  # some tests start processes
        sys.dont_write_bytecode = True
        options = ["-x", "-q", "--tb=no", "-rfE", "-p", "no:cacheprovider"]
        with redirect_stdout(io.StringIO()) as output, limited_time():
            status = pytest.main([*options, "-p", "only_the_copy", *files])
        os.chdir(ROOT)
    return int(status), output.getvalue()


@contextmanager
def limited_time():
    def stop(*args):
        pytest.exit(f"no answer within {SECONDS} s", returncode=TOO_LONG)

    signal.signal(signal.SIGALRM, stop)
    signal.alarm(SECONDS)
    yield
    signal.alarm(0)


def describe(fault):
    """Apply a fault; return whether it was noticed, and a line about it."""
    status, output = run_tests(fault, fault.test_files)
    first = re.search(r"^(?:FAILED|ERROR) (.+?)(?: - |$)", output, re.MULTILINE)
    # 1: some test failed. Others: pytest could not even begin, which says nothing.
    if status == 1 and first:
        return True, f"caught      {fault.name}: by {first[1]}"
    if status == 0:
        return False, f"NOT CAUGHT  {fault.name}: by {' '.join(fault.test_files)}"
    return False, f"NOT RUN     {fault.name}:\n{output}"


def describe_intact(faults):
    """Run on an intact copy all tests that the faults name; see `describe`."""
    files = sorted({file for fault in faults for file in fault.test_files})
    status, output = run_tests(None, files)
    if status == 0:
        return True, f"intact      {output.strip().splitlines()[-1]}"
    return False, f"FAILS INTACT\n{output}"


def start_workers(n_workers):
    """Return a pool that gives every task a process with the slow imports done."""
    # One thread each, in the processes that they are forked from as well.
    os.environ["OMP_NUM_THREADS"] = "1"
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(SLOW_IMPORTS)
    return ProcessPoolExecutor(n_workers, context, max_tasks_per_child=1)


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help="part of a name")
    parser.add_argument("--jobs", type=int, default=2, help="faults at a time")
    parser.add_argument("--list", action="store_true", help="only check the faults")
    arguments = parser.parse_args(argv)
    faults = select(arguments.names)
    if not faults:
        parser.error(f"no fault has a name with {' or '.join(arguments.names)}")
    complaints = check(faults)
    for line in complaints:
        print(f"NO LONGER FITS  {line}", file=sys.stderr)
    if complaints:
        return 1
    if arguments.list:
        print(*(f"{fault.file}: {fault.name}" for fault in faults), sep="\n")
        return 0
    n_caught = 0
    with start_workers(arguments.jobs) as pool:
        intact = pool.submit(describe_intact, faults)
        for is_caught, line in pool.map(describe, faults):
            n_caught += is_caught
            print(line, flush=True)
        is_intact, line = intact.result()
    print(line)
    print(f"{n_caught} of {len(faults)} caught")
    return 0 if is_intact and n_caught == len(faults) else 1


if __name__ == "__main__":
    sys.exit(main())
