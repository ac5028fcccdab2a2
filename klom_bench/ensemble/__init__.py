"""Many models trained and evaluated as one module with stacked parameters."""
