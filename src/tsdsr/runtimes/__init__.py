"""Any model in any engine: torch, ONNX Runtime and OpenVINO."""
