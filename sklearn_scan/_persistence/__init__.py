# SPDX-License-Identifier: BSD-3-Clause
"""Fitted estimators as files of data: saved, loaded, and exported to ONNX.

====================  ==============================================================
`_file`               one file of safetensors: arrays, and what they belong to
`_names`              classes and functions by name, and which of them are trusted
`_values`             plain values and arrays as JSON, and back
`_networks`           networks, which are built anew and given their weights
`_estimators`         estimators: class, parameters, and what `fit` has learned
`_onnx`               `predict_proba` as a graph that other programs run
====================  ==============================================================

Nothing in a file is code. What is read is held against what it may be: a class is
looked up in a list, a function has to be trusted by the caller, and an array has the
size that it takes in the file.
"""

from sklearn_scan._persistence._onnx import export_onnx
from sklearn_scan._persistence._saving import load, save

__all__ = ["export_onnx", "load", "save"]
