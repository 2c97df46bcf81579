"""The network and its training, in plain PyTorch."""
