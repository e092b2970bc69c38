"""Models outside PyTorch: export, ONNX Runtime and OpenVINO sessions, pipelines over exported graphs."""
