"""From the name of a model to a loaded model, and whether it is the model that a Fuser was made for."""
