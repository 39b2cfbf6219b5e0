"""SAM itself: its checkpoints, its model, the masks it proposes and the features it computes."""
