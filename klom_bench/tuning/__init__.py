"""Choosing hyperparameters on forget sets that are not gated, every trial written down."""
