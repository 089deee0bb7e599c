"""The networks to choose from with `train.network`, one file each."""
