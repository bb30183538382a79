"""Turns a diffusers checkpoint into a Triton model repository: ONNX, engine, numeric check, atomic install."""
