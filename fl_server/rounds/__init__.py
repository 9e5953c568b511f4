"""The round loop: from one checkpoint to the next, synchronous or asynchronous."""
