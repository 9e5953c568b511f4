"""Quantization-aware training: specification, fake quantization, preparation, lowering and its integer reference."""
