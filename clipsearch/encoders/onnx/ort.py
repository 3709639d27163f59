"""ONNX Runtime without its telemetry. Every other module imports it from here.

Unless told otherwise, ONNX Runtime 1.32 writes a device id and a database into the cache directory when it is imported,
and ten seconds later contacts mobile.events.data.microsoft.com.
"""

from __future__ import annotations

import os

# Read while the package is imported: neither setting it later nor `disable_telemetry_events` has an effect. What the
# user has set is replaced, because every value but "1" and "true" leaves telemetry on.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"

import onnxruntime

__all__ = ["onnxruntime"]
