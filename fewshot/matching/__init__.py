"""Which objects are like the examples."""
