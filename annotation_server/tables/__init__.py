"""The tables of the store: a class of methods for each kind of record."""
