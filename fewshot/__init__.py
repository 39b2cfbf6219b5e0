"""The pipeline of the SAM few-shot worker, one module a step, in the order in which the data flows."""
