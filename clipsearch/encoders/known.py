"""The table behind `clipsearch models`: models worth naming, with what is published about them."""

from __future__ import annotations

REPOSITORIES: dict[tuple[str, str], str] = {
    ("ViT-B-32-256", "datacomp_s34b_b86k"): "laion/CLIP-ViT-B-32-256x256-DataComp-s34B-b86K",
}
"""Hub repositories of the pairs that are asked for most, so that naming one does not import open_clip."""
