"""A labelled image, and what `make demo` does with it."""
