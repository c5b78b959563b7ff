# SPDX-License-Identifier: BSD-3-Clause
"""What the SCAN paper and its authors report on CIFAR-10, and on which terms."""

from dataclasses import dataclass

LEGEND = (
    "published: ACC / NMI / ARI in percent of ResNet-18 on 50,000 images of CIFAR-10, "
    "500 epochs of pretext. split: fitted on the training images, scored on the test "
    "images. mean of 10: runs that share one pretext, so their deviation understates "
    "that of retraining; best: the best of them. by loss: epoch and head were chosen "
    "by the SCAN loss on the test images; last: the last epoch counts, after a start "
    "that was chosen by loss. No figure was chosen by labels. V: verified in a file "
    "or a post of the authors or of a follower; R: recalled from the paper.",
    "The figures of this run are of another network, fewer images and fewer epochs.",
)


@dataclass(frozen=True)
class Published:
    """A figure with its terms."""

    figure: str
    runs: str
    selection: str
    trust: str
    protocol: str = "split"

    def __str__(self):
        terms = (self.protocol, self.runs, self.selection, self.trust)
        return f"{self.figure} ({', '.join(term for term in terms if term)})"


KMEANS = [Published("65.9 / 59.8 / 50.9", "runs not stated", "", "V")]
SELF_LABELS = [
    Published("87.6 / 78.7 / 75.8", "mean of 10", "last", "V"),
    Published("88.3 / 79.7 / 77.2", "best", "last", "V"),
]

# By table and row; what is not here, the paper does not report or nobody has looked up.
CIFAR10 = {
    "ablation": {
        "pretext + KMeans": KMEANS,
        "SCAN (standard)": [Published("78.7 ± 1.7", "mean of 10", "by loss", "R")],
        "SCAN (strong)": [
            Published("81.8 ± 1.7", "mean of 10", "by loss", "R"),
            Published("81.6 / 71.5 / 66.5", "best", "by loss", "V"),
        ],
        "SCAN (standard) + self-labels (standard)": [
            Published("10.0", "mean of 10", "last", "R")
        ],
        "SCAN (strong) + self-labels (strong)": SELF_LABELS,
    },
    "pretext": {
        "RotNet": [Published("74.3 ± 3.9", "mean of 10", "last", "R")],
        "InstanceDiscrimination, plain": [
            Published("83.5 ± 4.1", "mean of 10", "last", "R")
        ],
        "InstanceDiscrimination": [
            Published("87.6 ± 0.4", "mean of 10", "last", "R"),
        ],
        "SimCLR": [Published("87.6 ± 0.4", "mean of 10", "last", "R")],
    },
    "comparison": {
        "SimCLR + KMeans": KMEANS,
        "DeepCluster": [
            Published("37.4", "run by others, for IIC", "", "V", "protocol not stated")
        ],
        "SCAN": SELF_LABELS,
    },
    "overcluster": {
        "1 x": SELF_LABELS,
        "2 x": [Published("majority 86.2", "mean of 10", "last", "V")],
    },
}


def find_published(table, row, is_cifar10):
    """Return the published figures beside a row as text; None where there are none."""
    figures = CIFAR10.get(table, {}).get(row) if is_cifar10 else None
    return "; ".join(map(str, figures)) if figures else None
