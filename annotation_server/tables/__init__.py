"""The tables of the store: one class per kind of record."""
