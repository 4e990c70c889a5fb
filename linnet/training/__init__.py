"""batches -> checkpoint: the loop, objectives, optimiser, schedule, checkpoints and logs."""
