"""Models outside PyTorch: export, sessions of ONNX Runtime and OpenVINO, pipelines over exported graphs."""
