"""Encoders turn images and words into unit vectors of one space."""

import os

# huggingface_hub reads this while it is imported, which open_clip, timm and transformers do, too. Without it, version
# 2.4 adds the installed torch to each request, and asks the hub for a list of AI agents, to report any that runs here.
# A value that the user has set is replaced: "0" leaves telemetry on.
os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
