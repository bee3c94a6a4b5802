"""What the scripts share: data, training, checkpoints, metrics, figures and options."""
