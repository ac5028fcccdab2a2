"""What others have published: ensembles and forget sets, as they lie and on the hub."""
