"""CLIP models through open_clip: from a spec to files, from files to a model, from a model to towers."""
