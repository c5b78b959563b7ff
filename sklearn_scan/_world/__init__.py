# SPDX-License-Identifier: BSD-3-Clause
"""Several processes that fit one estimator together; nearly always there is one.

Every process runs the whole of `fit`, on the same samples and with the same seeds: it
draws the same batches and the same views, and holds the same networks. Encoders alone,
which nearly all of the arithmetic is in, look at a part of each batch in each process,
and their features are gathered. So whatever is done with features (losses that compare
all samples of a batch, queues, means over a batch, k-means, the choice of a head) is
done on the whole batch, as in one process, and knows nothing of others.
"""

from sklearn_scan._world._processes import (
    LostProcessError,
    World,
    alone,
    fitted_together,
    world,
)
from sklearn_scan._world._splitting import encode_together

__all__ = [
    "LostProcessError",
    "World",
    "alone",
    "encode_together",
    "fitted_together",
    "world",
]
