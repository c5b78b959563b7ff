# SPDX-License-Identifier: BSD-3-Clause
"""What the benchmark scripts share: data sets, baselines, tables and reports."""
