"""The folder that holds ensembles and their margins, in the published layout."""
