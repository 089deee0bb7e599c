"""How fast and how accurate, against peers measured in the same run."""
