"""The ONNX exporter and its runtime, ONNX Runtime on the CPU."""
