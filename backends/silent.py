"""OpenVINO without its reports: it tells its maker of every import, by a package that it can do without.

Whatever of ours needs OpenVINO takes it from here.
"""

import importlib
import sys
from typing import Any

sys.modules["openvino_telemetry"] = None  # type: ignore[assignment] # not to be imported, by anyone in this process
openvino: Any = importlib.import_module("openvino")
