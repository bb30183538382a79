"""Makes one component: torch module, ONNX, engine, comparison, configuration. Whatever shapes an engine lies in here or
in `export.engines`: both folders count in its fingerprint, whole.
"""
