"""The pipeline of the SAM few-shot worker: one module per step."""
