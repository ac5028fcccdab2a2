"""One HTML file that opens offline and has all that a run found."""
