# SPDX-License-Identifier: BSD-3-Clause
"""`sklearn-scan diagnose` prints the report of `sklearn_scan.diagnose`."""

import json

import numpy as np

from sklearn_scan import diagnose, load


def test_the_report_is_of_the_run(run, finished):
    out = finished[0]
    model = load(out / "model.safetensors")
    report = diagnose(model)
    record = json.loads(run("diagnose", out, "--json").stdout)
    assert record == report.to_dict()
    assert run("diagnose", out).stdout.rstrip("\n") == str(report)
    agree = model.labels_[model.neighbors_] == model.labels_[:, None]
    np.testing.assert_allclose(record["agreement"], agree.mean())


def test_stability_is_measured_where_asked_for(run, finished):
    out = finished[0]
    record = json.loads(run("diagnose", out, "--stability", "--json").stdout)
    assert all(each["stability"] is not None for each in record["clusters"])
    record = json.loads(run("diagnose", out, "--json").stdout)
    assert all(each["stability"] is None for each in record["clusters"])
