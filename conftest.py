"""For this repository's own tests: pytester runs the plugin in folders of its own."""

pytest_plugins = ["pytester"]
