"""What server, client and simulator share: records, data, models, quantization, privacy and export."""

__version__ = "0.1.0"
