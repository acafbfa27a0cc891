"""Bundles: a variant as a directory that runs by itself, its manifest, and the checks of one."""

from __future__ import annotations

from pocket_opt.bundle.layout import Bundle, write_bundle
from pocket_opt.bundle.manifest import metric_value, read_manifest
from pocket_opt.bundle.publication import bundle_directory, find_bundles
from pocket_opt.bundle.validation import Finding, validate_bundle

__all__ = [
    "Bundle",
    "Finding",
    "bundle_directory",
    "find_bundles",
    "metric_value",
    "read_manifest",
    "validate_bundle",
    "write_bundle",
]
