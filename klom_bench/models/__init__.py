"""Architectures, as plain torch modules of one model each."""
