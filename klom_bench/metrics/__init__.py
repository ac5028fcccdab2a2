"""Margins, KLOM, its noise floor and accuracy: needs only NumPy, and torch for tensors."""
